"""The checkpoints of a run: saved beside and renamed, verified before they are used, thinned out.

A save copies this rank's pieces to host memory, and a thread writes them. A rank says the size and
checksum of its file, or why it has none, through the store that the ranks have met at; once all
have, the first rank writes the manifest and renames the folder. Nothing but the copy stops
training, and no rank waits for another.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from pretrain.config import CheckpointConfig
from pretrain.distributed.topology import Topology, own_store
from pretrain.errors import UserError
from pretrain.run_files import MANIFEST, TABLE
from pretrain.training.checkpoint import shards
from pretrain.training.checkpoint.lineage import (
    ABANDONED,
    ancestor,
    new_identity,
    put_back,
    set_aside,
    set_aside_step,
)
from pretrain.training.checkpoint.manifest import (
    Ancestor,
    CheckpointError,
    File,
    Manifest,
    check_file,
    complete,
    file_of,
    folder_name,
    newest_first,
    read_manifest,
    step_of,
    sync,
)
from pretrain.training.checkpoint.tensor_files import Copy, PieceReader
from pretrain.training.engine import Engine

POLL_SECONDS = 0.05
Answer = TypeVar("Answer")


def rank_file(rank: int, ranks: int) -> str:
    """Name of a rank's file."""
    return f"rank-{rank:05d}-of-{ranks:05d}.safetensors"


def _key(step: int, rank: int) -> str:
    return f"{step}/{rank}"


@dataclass(frozen=True)
class Problem:
    """A save that failed: step, and why."""

    step: int
    message: str


class CheckpointStore:
    """Saves and restores the training state in one folder of the run.

    Args:
        directory: holds one folder per checkpoint.
        settings: `checkpoint` of the configuration.
        topology: who holds what.
        timeout: seconds that the first rank waits for the others' files.
    """

    def __init__(
        self, directory: Path, settings: CheckpointConfig, topology: Topology, timeout: float
    ) -> None:
        self.directory = directory
        self.settings = settings
        self.topology = topology
        self.timeout = timeout
        self._said = own_store("checkpoint")
        self._writer: threading.Thread | None = None
        self._problem: Problem | None = None
        self.saved_at = -1
        self._run = ""
        self._parent: Ancestor | None = None
        self._origin: Ancestor | None = None
        self._came_from: Path | None = None

    # Saving

    def save(
        self, engine: Engine, manifest: Manifest, save_selection: Callable[[Path], object] | None
    ) -> None:
        """Begin a checkpoint; every rank calls it after the same step.

        Returns once the state is copied, or, where `checkpoint.asynchronous` is off, written.

        Args:
            manifest: what it says of itself; files are added.
            save_selection: writes the selector's table to a folder; None where there is none.
        """
        self.wait()
        ranks = self.topology.ranks
        partial = self.directory / f".{folder_name(manifest.step)}.partial"
        problem = ""
        if ranks.rank == 0:
            try:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
            except OSError as error:
                problem = f"{partial}: {error.strerror or error}"
        told = [problem]
        dist.broadcast_object_list(told, src=0)
        if told[0]:
            self._problem = Problem(manifest.step, told[0])
            return
        if save_selection is not None:
            try:
                save_selection(partial / TABLE)
            except Exception as error:
                self._problem = Problem(manifest.step, str(error))
        copy = Copy.of([s for s in shards.shards_of(engine) if shards.writes(s, engine)])
        self.saved_at = manifest.step
        if not self.settings.asynchronous:
            self._write(partial, copy, manifest)
            return
        self._writer = threading.Thread(
            target=self._write, args=(partial, copy, manifest), name="checkpoint-writer"
        )
        self._writer.start()

    def wait(self) -> None:
        """Until the save that is under way, if any, has ended."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    @property
    def is_writing(self) -> bool:
        """Whether a save is under way on this rank."""
        return self._writer is not None and self._writer.is_alive()

    def problem(self) -> Problem | None:
        """What went wrong on this rank since the last call."""
        found, self._problem = self._problem, None
        return found

    def _write(self, partial: Path, copy: Copy, manifest: Manifest) -> None:
        ranks = self.topology.ranks
        path = partial / rank_file(ranks.rank, ranks.world_size)
        try:
            if self._problem is not None:
                raise OSError(self._problem.message)
            copy.write(path)
            sync(path)
            said: dict[str, Any] = {"file": asdict(file_of(path))}
        except (OSError, CheckpointError) as error:
            self._problem = Problem(manifest.step, f"{path}: {error}")
            said = {"error": f"rank {ranks.rank}: {error}"}
        try:
            self._said.set(_key(manifest.step, ranks.rank), json.dumps(said))
            if ranks.rank == 0:
                self._complete(partial, manifest)
        except (OSError, RuntimeError, CheckpointError) as error:  # RuntimeError: of the store
            self._problem = Problem(manifest.step, str(error))
            if ranks.rank == 0:
                shutil.rmtree(partial, ignore_errors=True)
            return
        if ranks.rank == 0:
            self._thin_out()

    def _complete(self, partial: Path, manifest: Manifest) -> None:
        """On the first rank: once all have said so, write the manifest and give it its name."""
        files = self._gather(partial, manifest.step)
        for path in sorted((partial / TABLE).glob("*")):
            files[f"{TABLE}/{path.name}"] = file_of(path)
        whole = replace(
            manifest, files=files, run=self._run, parent=self._parent, origin=self._origin
        )
        path = partial / MANIFEST
        path.write_text(whole.to_json(), encoding="utf-8")
        sync(path)
        sync(partial)
        target = self.directory / folder_name(manifest.step)
        if target.exists():  # of a stretch that is trained again after going back
            _remove(target)
        os.rename(partial, target)
        sync(self.directory)
        self._parent = ancestor(target, whole)

    def _gather(self, partial: Path, step: int) -> dict[str, File]:
        """What all ranks say of their files.

        Raises:
            CheckpointError: one has none, or says nothing in time.
        """
        ranks = self.topology.ranks.world_size
        files: dict[str, File] = {}
        deadline = time.monotonic() + self.timeout
        for rank in range(ranks):
            key = _key(step, rank)
            while not self._said.check([key]):
                if time.monotonic() > deadline:
                    raise CheckpointError(
                        f"{partial}: rank {rank} of {ranks} has not written its file in "
                        f"{self.timeout:.0f} s"
                    )
                time.sleep(POLL_SECONDS)
            values = json.loads(self._said.get(key))
            self._said.delete_key(key)
            if "error" in values:
                raise CheckpointError(f"{partial}: {values['error']}")
            files[rank_file(rank, ranks)] = File(**values["file"])
        return files

    def _thin_out(self) -> None:
        """Remove checkpoints beyond the last `keep_last`, and not of every `keep_every` steps; what
        this start went on from stays until the next one."""
        last, every = self.settings.keep_last, self.settings.keep_every
        try:
            for path in list(complete(self.directory))[last:] if last else []:
                if path != self._came_from and (not every or (step_of(path) or 0) % every):
                    _remove(path)
        except (OSError, CheckpointError) as error:
            print(f"warning: an old checkpoint stays: {error}", file=sys.stderr, flush=True)

    # Restoring

    def on_first_rank(self, look: Callable[[], Answer]) -> Answer:
        """What the first rank finds, on every rank; each calls it.

        Raises:
            UserError: on every rank, what the first one met, errors of the system too.
        """
        told: list[Any] = [None, ""]
        if self.topology.is_first_rank:
            try:
                told = [look(), ""]
            except (UserError, OSError) as error:
                told = [None, str(error)]
        dist.broadcast_object_list(told, src=0)
        if told[1]:
            raise CheckpointError(told[1])
        answer: Answer = told[0]
        return answer

    def newest(self, directory: Path | None = None) -> tuple[Path, Manifest, list[str]] | None:
        """The newest checkpoint that is whole; every rank calls it, and each checks its share.

        Args:
            directory: of checkpoints; the run's own if not given.

        Returns:
            Folder, manifest and what was said of newer ones that are not; None if none is there.

        Raises:
            CheckpointError: some are there, and none is whole; it says why of each.
        """
        place = self.directory if directory is None else directory
        skipped: list[str] = []
        for folder in self.on_first_rank(lambda: list(newest_first(place))):
            try:
                return folder, self.verified(folder), skipped
            except CheckpointError as error:
                skipped.append(str(error))
        if skipped:
            raise CheckpointError(
                "\n  ".join([f"{place}: no checkpoint there can be used:", *skipped])
                + "\nput the files back or mend their rights, go on from another run's checkpoint "
                "in another run.directory (--checkpoint.resume FOLDER), or lose this run and start "
                "over with --checkpoint.resume never --run.overwrite true"
            )
        return None

    def verified(self, folder: Path) -> Manifest:
        """The manifest of a checkpoint whose files are all as they were written.

        Every rank calls it, and each reads its share of the files.

        Raises:
            CheckpointError: on every rank, with what one of them found.
        """
        manifest = self.on_first_rank(lambda: read_manifest(folder))
        ranks = self.topology.ranks
        problem = ""
        for name in sorted(manifest.files)[ranks.rank :: ranks.world_size]:
            try:
                check_file(folder / name, manifest.files[name])
            except CheckpointError as error:
                problem = problem or str(error)
        problems = [""] * ranks.world_size
        dist.all_gather_object(problems, problem)
        for message in problems:
            if message:
                raise CheckpointError(message)
        return manifest

    def owns(self, folder: Path) -> bool:
        """Whether a checkpoint is one of this run's."""
        return folder.resolve().parent == self.directory.resolve()

    def is_named_by(self, path: Path) -> bool:
        """Whether a path names this run: its folder, that of its checkpoints, or one of them."""
        own = self.directory.resolve()
        return self.owns(path) or path.resolve() in (own, own.parent)

    def begin(self, folder: Path | None = None, manifest: Manifest | None = None) -> list[Path]:
        """Train on from a checkpoint, or from step 0; every rank calls it once it is loaded. From
        here on the folder holds its line alone: later checkpoints are set aside.

        Returns:
            What was set aside, by its new name, on every rank.

        Raises:
            UserError: one cannot be renamed.
        """
        dist.barrier()  # all have read what they need
        return self.on_first_rank(lambda: self._begin(folder, manifest))

    def _begin(self, folder: Path | None, manifest: Manifest | None) -> list[Path]:
        self._run = new_identity()
        if folder is None or manifest is None:
            return []
        if not self.owns(folder):
            self._parent = self._origin = ancestor(folder, manifest)
            return []
        moved = set_aside(self.directory, manifest.step, ABANDONED)
        if set_aside_step(folder) is not None:
            folder = put_back(folder)
        self._run = manifest.run or self._run
        self._parent, self._origin = ancestor(folder, manifest), manifest.origin
        self._came_from = self.directory / folder.name
        return moved

    def load(self, folder: Path, manifest: Manifest, engine: Engine) -> None:
        """Put a checkpoint's state into the engine, whatever layout wrote it.

        Raises:
            CheckpointError: it is of another model, or a part is missing.
        """
        reader = PieceReader.together([folder / name for name in manifest.rank_files])
        with torch.no_grad():
            for shard in shards.shards_of(engine):
                reader.fill(shard, weights_only="imported" in manifest.state)
            shards.take_in(engine, manifest.updates)
        engine.steps = manifest.step
        if self.owns(folder):
            self.saved_at = manifest.step
        engine.restore_small(manifest.state)


def _remove(path: Path) -> None:
    """Remove a checkpoint; its name is gone at once, so that half of one is never found."""
    doomed = path.with_name(f".{path.name}.{os.getpid()}.removed")
    os.rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)
