"""What a run goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pretrain.config import Config
from pretrain.errors import ConfigError
from pretrain.training.checkpoint.compatibility import check_same_model, check_same_run
from pretrain.training.checkpoint.lineage import check_descent, place_of
from pretrain.training.checkpoint.manifest import (
    CheckpointError,
    Manifest,
    complete,
    read_manifest,
)
from pretrain.training.checkpoint.store import CheckpointStore
from pretrain.training.fingerprints import moved


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
        CheckpointError: the folder that was named is not whole, or none of several is.
        UserError: another run's is named, and the folder has some that do not come from it.
    """
    resume = config.checkpoint.resume
    if resume == "never":
        return None, []
    if resume in ("auto", "latest"):
        found, skipped = _newest(store, store.directory)
        if found is None and resume == "latest":
            raise ConfigError(
                f"checkpoint.resume latest: {store.directory} holds no complete checkpoint; "
                "use auto to start at step 0"
            )
    else:
        found, skipped = _named(store, Path(resume))
    if found is not None:
        _check(found, config)
    return found, skipped


def _newest(store: CheckpointStore, directory: Path) -> tuple[Found | None, list[str]]:
    newest = store.newest(directory)
    return (None, []) if newest is None else (Found(newest[0], newest[1]), newest[2])


def _named(store: CheckpointStore, path: Path) -> tuple[Found | None, list[str]]:
    """The checkpoint at `path`, or the newest of the run there. Where it is another run's, and the
    folder has gone on from it already, the folder's own newest."""
    if not store.is_named_by(path):
        own, skipped = _newest(store, store.directory)
        if own is not None:  # the same command, started again, goes on
            store.on_first_rank(lambda: _check_begun(own, path))
            return own, skipped
    folder, several = store.on_first_rank(lambda: place_of(path))
    if several:
        return _newest(store, folder)
    return Found(folder, store.verified(folder)), []


def _check_begun(own: Found, path: Path) -> None:
    """Refuse the newest of this folder where it does not come from what is named; what is not there
    any more is not asked."""
    try:
        folder, several = place_of(path)
        named = read_manifest(next(complete(folder), folder) if several else folder)
    except CheckpointError:
        return
    check_descent(own.manifest, own.folder, named, path)


def _check(found: Found, config: Config) -> None:
    """Whether this run may go on from it; errors: see :func:`find`."""
    before = found.manifest.config
    if found.imported:
        check_same_model(before, config, found.folder)
    else:
        check_same_run(before, config, found.folder, moved(found.manifest.state))
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
