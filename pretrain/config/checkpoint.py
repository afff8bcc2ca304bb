"""The section `checkpoint`: what is kept, and what a run goes on from."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from pretrain.config.base import NonNegativeInt, Section, write_path_out


class CheckpointConfig(Section):
    """What is kept of the training, and what a run goes on from."""

    save_every: NonNegativeInt = 0
    """Steps between checkpoints; 0 saves none on the way."""
    save_final: bool = True
    """Save one after the last step."""
    keep_last: NonNegativeInt = 2
    """Newest checkpoints that are kept, besides the one that the run was started from; 0 keeps
    all."""
    keep_every: NonNegativeInt = 0
    """Steps of which each multiple is kept besides; 0 for none."""
    asynchronous: bool = True
    """Write in a thread while training goes on, from a copy in host memory."""
    on_error: Literal["warn", "stop"] = "warn"
    """What a save that fails (disk full, folder gone) does to the training."""
    resume: str = "auto"
    """What to go on from: auto (the newest complete checkpoint of the run's folder, if it has any),
    latest (that, and an error if it has none), never, or the folder of a checkpoint or of a run,
    which stands for its newest. Later checkpoints of the run itself are set aside."""

    @field_validator("resume")
    @classmethod
    def _folder(cls, value: str) -> str:
        return write_path_out(value)
