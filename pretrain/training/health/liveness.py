"""What ranks say of themselves, and what follows from it: who is gone, stuck, or slow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

NAMED = 8
"""Ranks that a message names one by one."""
DONE = "done"


@dataclass(frozen=True)
class Beat:
    """What a rank says of itself.

    Attributes:
        number: grows with every beat.
        stage: pipeline stage.
        step: steps done since the run began.
        operation: what its main thread does.
        ticks: how often it has begun something else or got on; stands still where it is stuck.
        forward_seconds: a micro-batch's forward pass of late; None before the first.
        failed: the error that it ends with; empty while there is none.
    """

    number: int
    rank: int
    host: str
    pid: int
    stage: int
    step: int
    operation: str
    ticks: int
    forward_seconds: float | None = None
    failed: str = ""

    def to_json(self) -> str:
        """As :func:`from_json` reads it."""
        return json.dumps(asdict(self))

    def __str__(self) -> str:
        return (
            f"rank {self.rank} on {self.host} (pid {self.pid}) in step {self.step + 1:,}, "
            f"{self.operation}"
        )


def from_json(text: str) -> Beat:
    """The beat that :meth:`Beat.to_json` wrote."""
    return Beat(**json.loads(text))


@dataclass(frozen=True)
class Limits:
    """Seconds after which a rank counts as lost.

    Attributes:
        silence: without a beat.
        step: without getting on, once a step is done.
        start: without getting on before that, and in `slow` operations.
    """

    silence: float
    step: float
    start: float
    slow: tuple[str, ...] = ("fit", "evaluation", "saving")

    def standstill(self, beat: Beat, first_step: int) -> float:
        """How long a rank may stand where it is."""
        slow = beat.step <= first_step or beat.operation in self.slow
        return self.start if slow else self.step


@dataclass(frozen=True)
class Problem:
    """Why a job has to end, and which ranks are the reason."""

    message: str
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Straggler:
    """A rank whose forward pass takes `times` as long as that of others of its stage."""

    beat: Beat
    times: float

    def __str__(self) -> str:
        return (
            f"rank {self.beat.rank} on {self.beat.host} is slow: a forward pass takes "
            f"{self.beat.forward_seconds:.3g} s, {self.times:.1f} times the others'"
        )


class Watch:
    """Follows the beats of some ranks by one clock, its own.

    Args:
        limits: see :class:`Limits`.
        first_step: steps done before this start.
    """

    def __init__(self, limits: Limits, first_step: int = 0) -> None:
        self.limits = limits
        self.first_step = first_step
        self.beats: dict[int, Beat] = {}
        self._heard: dict[int, float] = {}
        self._moved: dict[int, float] = {}
        self._slow_since: dict[int, float] = {}

    def observe(self, beats: Iterable[Beat], now: float) -> None:
        """Take in what ranks say at second `now`."""
        for beat in beats:
            before = self.beats.get(beat.rank)
            if before is None or beat.number != before.number:
                self._heard[beat.rank] = now
            if before is None or (beat.ticks, beat.step) != (before.ticks, before.step):
                self._moved[beat.rank] = now
            self.beats[beat.rank] = beat

    def silent(self, now: float, seconds: float) -> list[Beat]:
        """Ranks that have said nothing for so long, and did not say that they are done."""
        return [
            beat
            for rank, beat in sorted(self.beats.items())
            if beat.operation != DONE and now - self._heard[rank] > seconds
        ]

    def seconds_silent(self, rank: int, now: float) -> float:
        """Since its last beat."""
        return now - self._heard[rank]

    def seconds_still(self, rank: int, now: float) -> float:
        """Since it last got on."""
        return now - self._moved[rank]

    def gone(self, now: float) -> Problem | None:
        """Ranks of which nothing is heard; None where there are none."""
        silent = self.silent(now, self.limits.silence)
        if not silent:
            return None
        return Problem(
            f"{listed(silent)} said nothing for {self.limits.silence:g} s "
            "(run.silence_seconds): the process or its host is gone or stopped",
            tuple(beat.rank for beat in silent),
        )

    def problem(self, now: float) -> Problem | None:
        """Why the job has to end; None where all is well. Takes the beats of all ranks: who stands
        still waits for another as a rule."""
        gone = self.gone(now)
        if gone is not None:
            return gone
        # News of those who came last may have come last: they count from half the time on.
        if not self._still(now, 1.0):
            return None
        still = self._still(now, 0.5)
        first = min(still, key=_progress)
        behind = [beat for beat in still if _progress(beat) == _progress(first)]
        limit = self.limits.standstill(first, self.first_step)
        name = "run.timeout_seconds" if limit == self.limits.step else "run.start_timeout_seconds"
        others = len(self.beats) - len(behind)
        waiting = f"; {others} other ranks are further and wait" if others else ""
        return Problem(
            f"{listed(behind)} did not get on for {limit:g} s ({name}){waiting}",
            tuple(beat.rank for beat in behind),
        )

    def _still(self, now: float, share: float) -> list[Beat]:
        """Ranks that stand still for this share of what they may."""
        return [
            beat
            for rank, beat in sorted(self.beats.items())
            if beat.operation != DONE
            and now - self._moved[rank] > share * self.limits.standstill(beat, self.first_step)
        ]

    def stragglers(self, factor: float, now: float, seconds: float) -> list[Straggler]:
        """Ranks whose forward pass takes more than `factor` times the median of their stage, and
        has for `seconds`: a rank that was slow for a moment is not told of."""
        found = self._slow(factor)
        began = self._slow_since
        self._slow_since = {slow.beat.rank: began.get(slow.beat.rank, now) for slow in found}
        return [slow for slow in found if now - self._slow_since[slow.beat.rank] >= seconds]

    def _slow(self, factor: float) -> list[Straggler]:
        found = []
        for stage in {beat.stage for beat in self.beats.values()}:
            timed = [
                (beat, beat.forward_seconds)
                for _, beat in sorted(self.beats.items())
                if beat.stage == stage and beat.forward_seconds
            ]
            for beat, seconds in timed:
                others = [other for them, other in timed if them is not beat]
                if others and seconds > factor * median(others):
                    found.append(Straggler(beat, seconds / median(others)))
        return found


def _progress(beat: Beat) -> tuple[int, int]:
    return beat.step, beat.ticks


def listed(beats: Sequence[Beat]) -> str:
    """Ranks for people: the first few, and how many more."""
    more = f" and {len(beats) - NAMED} more" if len(beats) > NAMED else ""
    return "; ".join(map(str, beats[:NAMED])) + more
