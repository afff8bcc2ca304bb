"""What a run goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pretrain.config import Config
from pretrain.errors import ConfigError
from pretrain.training.checkpoint.compatibility import check_same_model, check_same_run
from pretrain.training.checkpoint.manifest import Manifest
from pretrain.training.checkpoint.store import CheckpointStore


@dataclass(frozen=True)
class Found:
    """A checkpoint to go on from."""

    folder: Path
    manifest: Manifest

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding that it was trained with."""
        return int(self.manifest.state["vocabulary"])

    @property
    def imported(self) -> bool:
        """Whether it holds weights of elsewhere to begin with (tools.import_hf)."""
        return "imported" in self.manifest.state


def find(store: CheckpointStore, config: Config) -> tuple[Found | None, list[str]]:
    """What `checkpoint.resume` says to go on from, verified; every rank calls it.

    Returns:
        None to start at step 0; and what was said of checkpoints that are newer but not whole.

    Raises:
        ConfigError: it is of another run, or `latest` finds none.
        CheckpointError: the folder that was named is not whole.
    """
    resume = config.checkpoint.resume
    if resume == "never":
        return None, []
    skipped: list[str] = []
    if resume not in ("auto", "latest"):
        folder = Path(resume)
        begun = None
        if not store.owns(folder):
            begun = store.newest()  # the same command, started again, goes on
        if begun is None:
            found = Found(folder, store.verified(folder))
        else:
            found = Found(begun[0], begun[1])
            skipped = begun[2]
    else:
        newest = store.newest()
        if newest is None:
            if resume == "latest":
                raise ConfigError(
                    f"checkpoint.resume latest: {store.directory} holds no complete checkpoint; "
                    "use auto to start at step 0"
                )
            return None, []
        found = Found(newest[0], newest[1])
        skipped = newest[2]
    same = check_same_model if found.imported else check_same_run
    same(found.manifest.config, config, found.folder)
    if found.manifest.step > config.training.steps:
        raise ConfigError(
            f"{found.folder} is {found.manifest.step} steps old, training.steps is "
            f"{config.training.steps}; raise it"
        )
    if found.vocabulary % config.parallel.tensor:
        raise ConfigError(
            f"{found.folder} has {found.vocabulary} rows of vocabulary, which parallel.tensor "
            f"{config.parallel.tensor} does not divide; use a divisor"
        )
    return found, skipped
