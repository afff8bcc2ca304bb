"""Whether the launchers that started this process are still there.

A launcher that dies by a signal need not take its ranks along (`deepspeed` and `torchrun` do not):
they would train on, and nobody would watch them or know how they end.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import PurePath
from typing import Any

import psutil

LOOK_SECONDS = 0.5
PROGRAMS = frozenset({
    "torchrun", "deepspeed", "mpirun", "mpiexec", "orterun", "prterun", "prted", "orted",
    "mpiexec.hydra", "hydra_pmi_proxy", "mpirun_rsh", "mpispawn", "palsd", "srun", "slurmstepd",
})  # fmt: skip
"""Names of programs that start ranks."""
MODULES = (
    "torch.distributed.run", "torch.distributed.launch", "deepspeed.launcher.runner",
    "deepspeed.launcher.launch", "accelerate.commands.launch",
)  # fmt: skip
"""The same for modules, as in `python -m torch.distributed.run`."""
WORDS = 8
"""Words of a command line in which a launcher names itself; what follows is the ranks'."""


def launcher_name(command: Sequence[str]) -> str | None:
    """What a process is called that starts ranks; None for any other.

    Args:
        command: its command line.
    """
    words = command[:WORDS]
    if not words:
        return None
    program = PurePath(words[0].split(":")[0]).name  # "slurmstepd: [7.0]"
    if program in PROGRAMS:
        return program
    if not program.startswith("python"):
        return None
    for word in words[1:]:
        if word in MODULES:
            return "deepspeed" if "deepspeed" in word else "torchrun"
        if PurePath(word).name in PROGRAMS:
            return PurePath(word).name
        if word.endswith(".py"):
            return None
    return None


class Launchers:
    """The launchers above this process, as they are when this is made."""

    def __init__(self) -> None:
        self._found: list[tuple[str, psutil.Process]] = []
        with suppress(psutil.Error):
            for process in psutil.Process().parents():
                with suppress(psutil.Error):
                    name = launcher_name(process.cmdline())
                    if name is not None:
                        self._found.append((name, process))

    @property
    def names(self) -> list[str]:
        """Who they are, the nearest first."""
        return [name for name, _ in self._found]

    def gone(self) -> str:
        """One that has ended, in words; empty while all are there."""
        for name, process in self._found:
            with suppress(psutil.AccessDenied):
                if not _lives(process):
                    return f"{name} (pid {process.pid}), which started this, is gone"
        return ""

    @contextmanager
    def watched(self, ended: Callable[[str], None]) -> Iterator[None]:
        """While inside, `ended` is told when one of them has, from a thread and once."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(LOOK_SECONDS):
                said = self.gone()
                if said:
                    _keep_writing()
                    ended(said)
                    return

        if not self._found:
            yield
            return
        thread = threading.Thread(target=look, name="launchers", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _keep_writing() -> None:
    """Send output that nobody reads any more to nowhere, so that writing it ends nothing."""
    for descriptor in (1, 2):
        poll = select.poll()
        poll.register(descriptor, 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
    # Another rank may hold the other end, and end before this one.
    sys.stdout, sys.stderr = _Patient(sys.stdout), _Patient(sys.stderr)


class _Patient:
    """A stream that takes what is written whether anybody reads it or not."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def _lives(process: psutil.Process) -> bool:
    """Whether a process is the one that it was, and has not ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
