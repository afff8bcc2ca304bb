"""Where a run stands, judged from what its folder says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from launcher.watch.snapshot import Rank, Ranks, Snapshot
from launcher.watch.words import duration
from pretrain.training.health.liveness import DONE, Limits

Mood = Literal["good", "busy", "waiting", "bad"]
QUIET_SECONDS = 10.0
QUIET_BEATS = 5.0
"""A rank is silent after so long, or so many beats; its job ends at `run.silence_seconds`."""
STILL_SECONDS = 60.0
STILL_STEPS = 5.0
"""A run stalls after so long, or so many steps' time; its job ends at `run.timeout_seconds`."""
SLOW_SHARE = 0.5
"""Of `run.start_timeout_seconds`, after which it stalls in operations that take long."""
BUSY = {"start": "starting", "fit": "fitting", "evaluation": "evaluating", "saving": "saving"}
SLOW = ("start", *Limits.slow)


@dataclass(frozen=True)
class State:
    """Where a run stands.

    Attributes:
        name: training, evaluating, saving, fitting, starting, stopping, queued, complete, stopped,
            failed, lost, stalled, silent.
        mood: what to make of it.
        detail: a sentence more; may be empty.
    """

    name: str
    mood: Mood
    detail: str = ""

    @property
    def under_way(self) -> bool:
        """Whether processes of the run are alive, as far as the folder knows."""
        return self.name in ("training", "stopping", "stalled", "silent", *BUSY.values())


def judge(snapshot: Snapshot) -> State:
    """The state of a run."""
    s = snapshot
    if s.result:
        return State("complete", "good", f"finished {_when(str(s.result.get('finished', '')))}")
    if s.scheduled is not None and s.scheduled.phase == "waiting":
        why = f" ({s.scheduled.reason})" if s.scheduled.reason else ""
        return State("queued", "waiting", f"job {s.job} is {s.scheduled.state}{why}")
    begun = _begun(s)
    if begun is not None and (s.ranks is None or begun > s.ranks.time):
        return _before_first_beat(s, begun)
    if s.ranks is None or not s.ranks.ranks:
        return State("queued", "waiting", f"job {s.job} has not begun") if s.job else _unknown(s)
    unheard = s.seconds_unheard or 0.0
    if s.ranks.ranks[0].operation != DONE and unheard <= s.asked.silence_seconds:
        return _alive(s, s.ranks)
    return _ended(s, s.ranks)


def silent(snapshot: Snapshot) -> list[Rank]:
    """Ranks that said nothing for a while when ranks.json was last written."""
    if snapshot.ranks is None or snapshot.result:
        return []
    quiet = max(QUIET_SECONDS, QUIET_BEATS * snapshot.ranks.interval)
    return [
        rank
        for rank in snapshot.ranks.ranks
        if rank.operation != DONE and rank.seconds_silent > quiet
    ]


def _begun(s: Snapshot) -> float | None:
    """When the run was last started, or its attempt ended."""
    if s.attempts:
        last = s.attempts[-1]
        return _seconds(last.ended or last.began)
    return None if s.job else s.configured


def _before_first_beat(s: Snapshot, begun: float) -> State:
    """Started after ranks.json was last written; or ended, and the batch script says how."""
    if s.attempts and s.attempts[-1].ended:
        return _verdict(s)
    if s.now - begun <= s.asked.start_timeout_seconds:
        return State("starting", "busy", f"for {duration(max(0.0, s.now - begun))}")
    return _unknown(s)


def _unknown(s: Snapshot) -> State:
    if s.scheduled is not None and not s.scheduled.active:
        return State(
            "failed", "bad", f"job {s.job} is {s.scheduled.state}; launcher logs says more"
        )
    return State("lost", "bad", "it ended before its first sign of life; its output says why")


def _verdict(s: Snapshot) -> State:
    last = s.attempts[-1]
    why = f": {last.why}" if last.why else ""
    ended = f"{_when(last.ended)}{why}"
    if last.verdict == "requeued":
        return State("queued", "waiting", f"job {last.job}, requeued {ended}")
    if last.verdict == "stopped":
        return State("stopped", "waiting", f"{ended}; launcher resubmit goes on")
    failure = f"{s.ranks.ranks[0].failed}; " if s.ranks and s.ranks.ranks[0].failed else ""
    return State("failed", "bad", f"{failure}job {last.job} {last.verdict}, {ended}")


def _alive(s: Snapshot, ranks: Ranks) -> State:
    quiet = silent(s)
    if quiet:
        longest = max(rank.seconds_silent for rank in quiet) + (s.seconds_unheard or 0.0)
        return State(
            "silent", "bad",
            f"{_named(quiet)}: no sign of life for {duration(longest)}; "
            f"the job ends after {duration(s.asked.silence_seconds)}",
        )  # fmt: skip
    first = ranks.ranks[0]
    still = [rank for rank in ranks.ranks if rank.seconds_still > _patience(s, rank)]
    if still:
        # Whoever others wait for has stood still for longest.
        stuck = max(still, key=lambda rank: rank.seconds_still)
        return State(
            "stalled", "bad",
            f"{stuck} has stood in step {stuck.step + 1:,}, {stuck.operation}, for "
            f"{duration(stuck.seconds_still)}",
        )  # fmt: skip
    if s.stop is not None:
        return State("stopping", "waiting", f"{s.stop}; the step is finished and saved first")
    if first.operation in BUSY:
        return State(BUSY[first.operation], "busy", f"for {duration(first.seconds_still)}")
    return State("training", "good")


def _patience(s: Snapshot, rank: Rank) -> float:
    """Seconds that a rank may stand where it is before it shows."""
    if rank.operation == DONE:
        return float("inf")
    if s.step_seconds is None or rank.operation in SLOW:
        return SLOW_SHARE * s.asked.start_timeout_seconds
    return max(STILL_SECONDS, STILL_STEPS * s.step_seconds)


def _ended(s: Snapshot, ranks: Ranks) -> State:
    failed = [rank for rank in ranks.ranks if rank.failed]
    ago = f"{duration(s.seconds_unheard or 0.0)} ago"
    if failed:
        return State("failed", "bad", f"{ago}, {failed[0]}: {failed[0].failed}")
    first = ranks.ranks[0]
    if first.operation == DONE:
        why = s.stop or _why_stopped(s)
        return State("stopped", "waiting", f"{ago}{f': {why}' if why else ''}; "
                     "the same command goes on")  # fmt: skip
    suspects = silent(s) or [max(ranks.ranks, key=lambda rank: rank.seconds_still)]
    job = f"; job {s.job} is {s.scheduled.state}" if s.scheduled is not None else ""
    whom = f" of {_named(suspects)}" if len(ranks.ranks) > 1 else ""
    return State(
        "lost", "bad",
        f"no sign of life for {duration(s.seconds_unheard or 0.0)}; the last{whom} in step "
        f"{suspects[0].step + 1:,}, {suspects[0].operation}{job}",
    )  # fmt: skip


def _why_stopped(s: Snapshot) -> str:
    if s.rolled_back:
        return "rolled back to before bad steps"
    return "training.max_minutes are over" if s.asked.max_minutes else ""


def _named(ranks: list[Rank], most: int = 3) -> str:
    more = f" and {len(ranks) - most} more" if len(ranks) > most else ""
    return ", ".join(map(str, ranks[:most])) + more


def _seconds(iso: str) -> float:
    try:
        return datetime.fromisoformat(iso).timestamp()
    except ValueError:
        return 0.0


def _when(iso: str) -> str:
    try:
        return datetime.fromisoformat(iso).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return ""
