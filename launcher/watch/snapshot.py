"""What a run's folder says at one moment."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

from launcher.record import Attempt, Record
from launcher.scheduler import Job, scheduler
from launcher.tails import Tail, json_object, tail
from pretrain.config import RunConfig, read_yaml
from pretrain.errors import UserError
from pretrain.run_files import (
    BAD_STEPS,
    CHECKPOINTS,
    CONFIG,
    EVALUATIONS,
    MANIFEST,
    METRICS,
    RANKS,
    RESULT,
    SELECTIONS,
    SKIPPED,
    STOP,
)
from pretrain.training.checkpoint.manifest import newest_first, read_manifest, step_of

PARTIAL = ".step-*.partial"
ASK_SECONDS = 15.0
"""Longest time for which the scheduler's answer is kept: its controller serves everybody."""


RECENT = 20
"""Logged steps that a figure `of late` is taken over."""
DEFAULT = RunConfig()


NOTHING = Tail()


@dataclass(frozen=True)
class Asked:
    """What the configuration asks for; seconds as in `run`.

    Attributes:
        steps: `training.steps`; None where it cannot be read.
        max_minutes: `training.max_minutes`.
        refresh_every: `selection.refresh_every`.
    """

    steps: int | None = None
    max_minutes: float | None = None
    refresh_every: int = 0
    silence_seconds: float = DEFAULT.silence_seconds
    timeout_seconds: float = DEFAULT.timeout_seconds
    start_timeout_seconds: float = DEFAULT.start_timeout_seconds


@dataclass(frozen=True)
class Rank:
    """A line of ranks.json; times in seconds."""

    rank: int = 0
    host: str = ""
    step: int = 0
    operation: str = ""
    seconds_still: float = 0.0
    seconds_silent: float = 0.0
    failed: str = ""

    def __str__(self) -> str:
        return f"rank {self.rank} on {self.host}"


@dataclass(frozen=True)
class Ranks:
    """What ranks.json says.

    Attributes:
        time: when it was written, seconds since 1970 by the first rank's clock.
        interval: seconds between two beats.
        ranks: in order.
        slow: stragglers in words.
    """

    time: float
    interval: float
    ranks: tuple[Rank, ...]
    slow: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """The newest complete checkpoint: steps, when it was written, bytes (None if unknown)."""

    step: int
    time: float
    size: int | None


@dataclass(frozen=True)
class Snapshot:
    """A run at the moment `now`, in seconds since 1970.

    Attributes:
        configured: when config.yaml was written, which every start does; None without it.
        asked: what that says.
        metrics, evaluations, bad_steps, selections: ends of the files of that name.
        ranks: what ranks.json says; None without it.
        result: what result.json says; empty for a run that is not complete.
        saving: step of a checkpoint that is being written, or was when its job ended.
        stop: why the run was asked to stop, None if it was not.
        rolled_back: how many stretches of data are passed over.
        job: number of the last job; empty without a launcher's record.
        attempts: of that record.
        scheduled: what the scheduler says of the job; None where it says nothing.
    """

    directory: Path
    now: float
    configured: float | None = None
    asked: Asked = Asked()
    metrics: Tail = NOTHING
    evaluations: Tail = NOTHING
    bad_steps: Tail = NOTHING
    selections: Tail = NOTHING
    ranks: Ranks | None = None
    result: dict[str, Any] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    saving: int | None = None
    stop: str | None = None
    rolled_back: int = 0
    job: str = ""
    attempts: tuple[Attempt, ...] = ()
    scheduled: Job | None = None

    @property
    def step(self) -> int:
        """Steps done, as far as the folder knows."""
        if self.result and self.asked.steps:
            return self.asked.steps
        logged = self.metrics.last.get("step", 0)
        beaten = self.ranks.ranks[0].step if self.ranks and self.ranks.ranks else 0
        saved = self.checkpoint.step if self.checkpoint else 0
        return max(logged, beaten, saved)

    def typical(self, name: str) -> float | None:
        """Median of a figure over the last logged steps; None where it is not known."""
        values = [record.get(name) for record in self.metrics.objects[-RECENT:]]
        numbers = [value for value in values if isinstance(value, float) and math.isfinite(value)]
        return median(numbers) if numbers else None

    @property
    def step_seconds(self) -> float | None:
        """Wall time of a step of late, evaluations and saving left out."""
        return self.typical("step_seconds")

    @property
    def seconds_left(self) -> float | None:
        """Steps that are left times `step_seconds`; evaluations and saving are left out."""
        if self.step_seconds is None or self.asked.steps is None:
            return None
        return max(0, self.asked.steps - self.step) * self.step_seconds

    @property
    def seconds_unheard(self) -> float | None:
        """Since ranks.json was written."""
        return None if self.ranks is None else max(0.0, self.now - self.ranks.time)

    @property
    def went_on_at(self) -> list[int]:
        """Steps that restarts went on from. Without a launcher's record, those that left a line in
        selection.jsonl: two that went on from the same step count as one."""
        if self.attempts:
            return [attempt.first for attempt in self.attempts[1:]]
        steps = [line.get("step", 0) for line in self.selections.objects]
        every = self.asked.refresh_every
        return [step for step in steps if step > 0 and (not every or step % every)]


def take(directory: Path) -> Snapshot:
    """Read a run's folder; whatever is missing or half written is left out.

    Raises:
        UserError: the folder is not that of a run.
    """
    config_path = directory / CONFIG
    configured = _changed(config_path)
    record = Record(directory)
    if configured is None and not record.folder.is_dir():
        what = "holds no run: it has no config.yaml" if directory.is_dir() else "is not there"
        raise UserError(f"{directory} {what}; give the run.directory of a run")
    job, attempts = _recorded(record)
    return Snapshot(
        directory=directory,
        now=time.time(),
        configured=configured,
        asked=_asked_for(config_path),
        metrics=tail(directory / METRICS),
        evaluations=tail(directory / EVALUATIONS),
        bad_steps=tail(directory / BAD_STEPS),
        selections=tail(directory / SELECTIONS),
        ranks=_ranks(json_object(directory / RANKS)),
        result=json_object(directory / RESULT),
        checkpoint=_checkpoint(directory / CHECKPOINTS),
        saving=_saving(directory / CHECKPOINTS),
        stop=_stop(directory / STOP),
        rolled_back=len(json_object(directory / SKIPPED).get("stretches", ())),
        job=job,
        attempts=attempts,
        scheduled=_told(job, int(time.monotonic() / ASK_SECONDS)) if job else None,
    )


def _changed(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _asked_for(path: Path) -> Asked:
    """Read field by field: another version may have written the file."""
    try:
        values = read_yaml(path)
    except UserError:
        return Asked()
    found: dict[str, Any] = {}
    for section in ("training", "selection", "run"):
        fields = values.get(section)
        for name, value in fields.items() if isinstance(fields, dict) else ():
            if name in Asked.__dataclass_fields__ and isinstance(value, int | float):
                found[name] = value
    return Asked(**found)


def _recorded(record: Record) -> tuple[str, tuple[Attempt, ...]]:
    try:
        return record.job(), tuple(record.attempts())
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return "", ()


@lru_cache(maxsize=1)
def _told(number: str, tick: int) -> Job | None:
    cluster = scheduler()
    found = cluster.jobs(number) if cluster.available() else []
    return found[0] if found else None


def _ranks(values: dict[str, Any]) -> Ranks | None:
    try:
        names = Rank.__dataclass_fields__
        return Ranks(
            values["time"],
            values["interval"],
            tuple(Rank(**{k: v for k, v in row.items() if k in names}) for row in values["ranks"]),
            tuple(
                f"rank {slow['rank']} on {slow['host']} ({slow['times']:.1f} times the others)"
                for slow in values["stragglers"]
            ),
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def _checkpoint(directory: Path) -> Checkpoint | None:
    with suppress(UserError):  # it cannot be looked into
        for folder in newest_first(directory):
            written = _changed(folder / MANIFEST)
            if written is not None:
                return Checkpoint(step_of(folder) or 0, written, _size(folder, written))
    return None


@lru_cache(maxsize=4)
def _size(folder: Path, written: float) -> int | None:
    try:
        return sum(file.bytes for file in read_manifest(folder).files.values())
    except UserError:
        return None


def _saving(directory: Path) -> int | None:
    numbers = [path.name.removeprefix(".step-").split(".")[0] for path in directory.glob(PARTIAL)]
    return max((int(number) for number in numbers if number.isdecimal()), default=None)


def _stop(path: Path) -> str | None:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return lines[0] if lines else "a file named stop"
