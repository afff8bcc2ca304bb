"""Being asked to stop: signals, a file, a time limit, the end of the launcher. The step is finished
and saved first.

Whoever is asked leaves a file in the run's folder; the first reader looks for it and tells the
others with the next batches, so that all stop after the same step and no step pays for it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from pretrain.run_files import STOP
from pretrain.training.health.launchers import Launchers

STOPPED = 75
"""Exit code of a run that was stopped and can go on: EX_TEMPFAIL of sysexits.h."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
LOOK_SECONDS = 0.5
TIME_IS_OVER = "training.max_minutes are over"


class Stopper:
    """Knows whether this run was asked to stop, and why.

    Args:
        directory: of the run; a file named `stop` in it asks the run to stop.
        max_minutes: from now on; None for no limit.
    """

    def __init__(self, directory: Path, max_minutes: float | None = None) -> None:
        self.path = directory / STOP
        self.deadline = None if max_minutes is None else time.monotonic() + 60.0 * max_minutes
        self._reason = ""
        self._looked = 0.0
        self._launchers = Launchers()

    def ask(self, reason: str) -> None:
        """Ask the run to stop, from any rank. Asking twice changes nothing."""
        if self._reason:
            return
        self._reason = reason
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(f"{reason}\n")
        except OSError:  # the folder is gone or full: the first reader still knows by itself
            return

    @property
    def reason(self) -> str:
        """Why it was asked to; empty if it was not. Looks at the folder now and then."""
        now = time.monotonic()
        if not self._reason and self.deadline is not None and now >= self.deadline:
            self._reason = TIME_IS_OVER
        if not self._reason and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            if self.path.exists():
                self._reason = self._written()
        return self._reason

    @property
    def is_urgent(self) -> bool:
        """Whether it was asked to by something else than its own time limit."""
        return bool(self.reason) and self.reason != TIME_IS_OVER

    def _written(self) -> str:
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            lines = []
        return (lines[0] if lines else "") or f"{self.path} is there"

    def forget(self) -> None:
        """Remove a file that an earlier run was stopped by."""
        self.path.unlink(missing_ok=True)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While inside, SIGTERM and SIGUSR1 ask the run to stop instead of killing it; so does the
        end of a launcher that was there when this object was made."""

        def heard(number: int, frame: FrameType | None) -> None:
            self.ask(signal.Signals(number).name)

        before = {number: signal.signal(number, heard) for number in SIGNALS}
        try:
            with self._launchers.watched(self.ask):
                yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
