"""The section `run`: where a run writes, what it shows and what it runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pretrain.config.base import NonNegativeInt, PositiveInt, Section


class RunConfig(Section):
    """Where a run writes, what it shows and what it runs on."""

    directory: Path = Path("runs/default")
    """Folder of this run."""
    overwrite: bool = False
    """Start over in a folder that already holds a run; what it holds is lost."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is a device, else the CPU."""
    threads: NonNegativeInt = 0
    """CPU threads of each process; 0 shares the cores among the processes of the host unless
    OMP_NUM_THREADS says otherwise."""
    log_every: PositiveInt = 20
    """Steps between lines of metrics.jsonl."""
    tensorboard: bool = True
    """Write TensorBoard events."""
    trackers: tuple[Literal["wandb", "mlflow"], ...] = ()
    """Trackers that get the run, too, as one run there also when it goes on; where and as whom is
    said by their own environment variables."""
    progress: bool = True
    """Show a progress bar on rank 0."""
    timeout_seconds: PositiveInt = 600
    """Longest time that a process may stand still, for example wait for another, before the job
    ends with exit code 74 and names it."""
    start_timeout_seconds: PositiveInt = 1800
    """The same up to the first step, and while fitting, evaluating or saving."""
    silence_seconds: PositiveInt = 60
    """Longest time that nothing is heard of a process before the job ends."""
    straggler_factor: Annotated[float, Field(gt=1.0)] = 1.5
    """A process whose forward pass takes so many times the others' is named as slow."""
