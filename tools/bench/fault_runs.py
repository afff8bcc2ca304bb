"""Runs on a few ranks of this machine that can be hurt, and what they leave behind."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pretrain.distributed.ranks import free_port
from pretrain.run_files import CHECKPOINTS, METRICS, RESULT
from pretrain.testing.forks import environment, forks
from pretrain.training.checkpoint.manifest import CheckpointError, newest_first, read_manifest

STEPS = 60
SAVE_EVERY = 7
EVALUATE_EVERY = 20
GRACE = 2.0
"""Seconds after the first rank has ended until a launcher kills the others."""
PATIENCE = 180.0
ATTEMPTS = 8
CAPABILITIES = 0x20080522
"""Version of the interface, of linux/capability.h."""

COMMON: dict[str, Any] = {
    "model.layers": 2,
    "model.hidden_size": 32,
    "model.sequence_length": 10,
    "model.dropout": 0.1,
    "optimizer.warmup_steps": 5,
    "training.steps": STEPS,
    "training.global_batch": 16,
    "training.evaluate_every": EVALUATE_EVERY,
    "training.evaluation_examples": 400,
    "checkpoint.save_every": SAVE_EVERY,
    "checkpoint.keep_last": 3,
    "run.log_every": 1,
    "run.progress": "false",
    "run.tensorboard": "false",
}


@dataclass(frozen=True)
class Layout:
    """How a run is spread, and what else it exercises."""

    name: str
    ranks: int
    options: dict[str, Any]


LAYOUTS = (
    Layout("ZeRO-1, fp32, refreshed selection", 2,
           {"parallel.zero_stage": 1, "selection.refresh_every": 16}),
    Layout("ZeRO-2, bf16, two micro-batches", 2,
           {"parallel.zero_stage": 2, "training.precision": "bf16", "training.micro_batch": 4}),
    Layout("tensor 2, written at once", 2,
           {"parallel.tensor": 2, "checkpoint.asynchronous": "false"}),
    Layout("pipeline 2, untied", 2,
           {"parallel.pipeline": 2, "training.micro_batch": 4, "model.preset": "llama"}),
)  # fmt: skip


@dataclass(frozen=True)
class Person:
    """Who starts a run; None leaves what is.

    Attributes:
        umask: rights that new files are made without.
        ordinary: without root's right to the files of others.
    """

    umask: int | None = None
    ordinary: bool = False

    def become(self) -> None:
        """For the rest of this process.

        Raises:
            OSError: it cannot be.
        """
        if self.umask is not None:
            os.umask(self.umask)
        if self.ordinary:
            header, none = (ctypes.c_uint32 * 2)(CAPABILITIES, 0), (ctypes.c_uint32 * 6)()
            if ctypes.CDLL(None, use_errno=True).capset(header, none):
                raise OSError(ctypes.get_errno(), "capset")


def _rank(
    rank: int, ranks: int, port: int, arguments: list[str], log: Path, person: Person
) -> None:
    """One rank of `pretrain/main.py`; ends the process with its exit code."""
    os.setpgid(0, 0)
    os.environ.update(environment(rank, ranks, port))
    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    person.become()
    from pretrain.main import main

    code = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Attempt:
    """The ranks of a run, started once. A launcher's part is played here: once a rank has ended
    with an error, the others are killed after a while.

    Args:
        directory: of the run.
        layout: how it is spread.
        logs: folder of the ranks' outputs.
        more: options of this start alone.
        person: who starts it.
    """

    def __init__(
        self,
        directory: Path,
        layout: Layout,
        logs: Path,
        more: Mapping[str, Any] | None = None,
        person: Person = Person(),
    ) -> None:
        options = {**COMMON, **layout.options, "run.directory": directory, **(more or {})}
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        port = free_port()
        self.directory = directory
        self.ranks: list[BaseProcess] = [
            forks().Process(
                target=_rank,
                args=(rank, layout.ranks, port, arguments, logs / f"rank-{rank}.log", person),
            )
            for rank in range(layout.ranks)
        ]
        for process in self.ranks:
            process.start()

    @property
    def running(self) -> bool:
        """Whether all ranks are there."""
        return all(process.is_alive() for process in self.ranks)

    def send(self, rank: int, number: signal.Signals) -> None:
        """A signal to a rank, if it is still there."""
        pid = self.ranks[rank].pid
        assert pid is not None
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def until(self, reached: Callable[[], bool]) -> bool:
        """Wait until something is reached; whether it was before the ranks ended."""
        deadline = time.monotonic() + PATIENCE
        while self.running and time.monotonic() < deadline:
            if reached():
                return True
            time.sleep(0.001)
        return reached()

    def finish(self) -> list[int | None]:
        """Exit codes of all ranks."""
        deadline = time.monotonic() + PATIENCE
        while self.running and time.monotonic() < deadline:
            time.sleep(0.01)
        codes = {process.exitcode for process in self.ranks if not process.is_alive()}
        grace = GRACE if codes - {0, 75} else PATIENCE
        deadline = time.monotonic() + grace
        for process in self.ranks:
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.join()
        return [process.exitcode for process in self.ranks]

    @property
    def steps(self) -> int:
        """Steps that were logged."""
        try:
            return (self.directory / METRICS).read_bytes().count(b"\n")
        except OSError:
            return 0

    @property
    def saving(self) -> bool:
        """Whether a checkpoint is being written."""
        return any((self.directory / CHECKPOINTS).glob(".step-*.partial"))


def ended(directory: Path, layout: Layout, logs: Path) -> int:
    """Start the run again until it is complete; how often that took.

    Raises:
        RuntimeError: it is not after ATTEMPTS starts.
    """
    for attempt in range(ATTEMPTS):
        if (directory / RESULT).exists():
            return attempt
        Attempt(directory, layout, logs).finish()
    if (directory / RESULT).exists():
        return ATTEMPTS
    raise RuntimeError(f"{directory}: not complete after {ATTEMPTS} starts; see {logs}")


def state_of(directory: Path) -> dict[str, str]:
    """Checksum of each rank's file of the last checkpoint: weights, moments, to the bit.

    Raises:
        RuntimeError: the last step's checkpoint is not there or not whole.
    """
    for folder in newest_first(directory / CHECKPOINTS):
        try:
            manifest = read_manifest(folder)
        except CheckpointError as error:
            raise RuntimeError(str(error)) from None
        if manifest.step == STEPS:
            return {name: manifest.files[name].sha256 for name in sorted(manifest.rank_files)}
        break
    raise RuntimeError(f"{directory}: no checkpoint of step {STEPS}")
