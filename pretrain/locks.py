"""One process at a time fills a folder, on whichever machine.

The system's lock decides on one machine, and is gone with the process that held it, however that
ended. Not every network file system carries it to other machines. So the holder says in the locked
file who it is, and renews the file's time: whoever finds another machine's name there waits to see
whether it is renewed. Clocks are not compared.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pretrain.errors import UserError

RENEW_SECONDS = 2.0
SILENT_SECONDS = 20.0
"""Without a renewal for so long, another machine's holder is gone."""
PATIENCE_SECONDS = 5.0
"""How long a holder that is about to end is waited for."""
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        host, pid: for people.
        machine: tells machines apart, and one start of a machine from the next.
        since: when it was taken, ISO 8601.
    """

    host: str
    pid: int
    machine: str
    since: str

    @classmethod
    def me(cls) -> Holder:
        """This process."""
        host = socket.gethostname()
        return cls(host, os.getpid(), _machine(host), time.strftime("%Y-%m-%dT%H:%M:%S%z"))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


def _machine(host: str) -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return host


@contextmanager
def locked(path: Path, busy: str, way_out: str) -> Iterator[None]:
    """Hold the lock `path`, a file that is made with its folder and stays; while inside, nobody
    else gets it.

    Args:
        busy: says of the folder that it is filled by somebody; who that is follows.
        way_out: what to do then.

    Raises:
        UserError: another process holds it.
        OSError: the file cannot be made.
    """
    try:
        file = _taken(path)
    except _HeldError as held:
        raise UserError(f"{busy} {held}; {way_out}") from None
    try:
        os.ftruncate(file, 0)
        with suppress(OSError):  # a disk that is full: the lock of this machine counts all the same
            os.pwrite(file, json.dumps(asdict(Holder.me())).encode(), 0)
        ended = threading.Event()
        renewing = threading.Thread(
            target=_renew, args=(file, ended), name=f"lock {path}", daemon=True
        )
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join()
            os.ftruncate(file, 0)
    finally:
        # Not removed: another process may have it open already, and would lock what has no name.
        os.close(file)


class _HeldError(Exception):
    """By whom."""


def _taken(path: Path) -> int:
    """A descriptor of the file, locked. Raises _HeldError."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _take(file, path)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(path)):
                    return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # its holder removed it at its end: what is locked has no name


def _take(file: int, path: Path) -> None:
    """Get the system's lock, and make sure that no other machine's process fills the folder."""
    until = time.monotonic() + PATIENCE_SECONDS
    everywhere = True
    while True:
        try:
            # A record lock: processes that are forked later do not have it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except (BlockingIOError, PermissionError):
            if time.monotonic() > until:
                raise _HeldError(_holder(file) or "another process") from None
            time.sleep(_POLL_SECONDS)
        except OSError:  # a file system without locks
            everywhere = False
            break
    holder = _holder(file)
    if holder is None or (everywhere and holder.machine == Holder.me().machine):
        return
    if _renewed(file, path, holder):
        raise _HeldError(holder)


def _renewed(file: int, path: Path, holder: Holder) -> bool:
    """Whether another holder still gives a sign of life."""
    before = os.fstat(file).st_mtime_ns
    until = time.monotonic() + SILENT_SECONDS
    print(
        f"{path} names {holder}: waiting up to {SILENT_SECONDS:.0f} s for a sign of it",
        file=sys.stderr,
        flush=True,
    )
    while time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
        if _holder(file) is None:  # it has ended
            return False
        if os.fstat(file).st_mtime_ns != before:
            return True
    return False


def _holder(file: int) -> Holder | None:
    """Who wrote into the file; None where nobody did, or what is there cannot be read."""
    try:
        return Holder(**json.loads(os.pread(file, 4096, 0)))
    except (OSError, ValueError, TypeError):
        return None


def _renew(file: int, ended: threading.Event) -> None:
    while not ended.wait(RENEW_SECONDS):
        with suppress(OSError):
            os.utime(file)
