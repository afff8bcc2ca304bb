"""What every submission does, of one run or of many."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from launcher.record import Record
from launcher.scheduler import Scheduler
from pretrain.errors import ConfigError
from pretrain.files import write_text


def write(path: Path, text: str) -> None:
    """A whole file, in a folder that is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def now() -> str:
    """This moment in ISO 8601, as job.sh writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def refuse_active(record: Record, scheduler: Scheduler) -> None:
    """Two jobs must not write one folder.

    Raises:
        ConfigError: a job of this run waits or runs.
    """
    if record.submission() is None and not record.attempts():
        return
    for job in scheduler.jobs(record.job()):
        if job.active:
            raise ConfigError(
                f"run.directory {record.directory}: job {job.number} of this run is {job.state}; "
                f"wait for it, or python -m launcher cancel {shlex.quote(str(record.directory))}"
            )
