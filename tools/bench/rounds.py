"""Routes to the same result that take turns, and what their seconds say."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence

Route = Callable[[], float]
"""Goes its way once and returns the seconds that it took."""

Seconds = dict[str, list[float]]
"""Of each route, in each round that it had."""


def clocked(work: Callable[[], object]) -> Route:
    """A route that is timed from call to return; giving the result's memory back is not."""

    def route() -> float:
        started = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - started
        del result
        return seconds

    return route


def take_turns(routes: Mapping[str, Route], rounds: int, fewer: Mapping[str, int]) -> Seconds:
    """Seconds of all routes, in the opposite order in every other round.

    Args:
        routes: by name.
        rounds: turns of each.
        fewer: turns of single routes, in the first rounds; no more than `rounds`.
    """
    seconds: Seconds = {name: [] for name in routes}
    for turn in range(rounds):
        names = [name for name in routes if turn < fewer.get(name, rounds)]
        for name in names if turn % 2 == 0 else reversed(names):
            seconds[name].append(routes[name]())
        end = "\n" if turn + 1 == rounds else "\r"
        print(f"round {turn + 1} of {rounds}", end=end, file=sys.stderr, flush=True)
    return seconds


def ratios(seconds: Seconds, theirs: str, ours: str) -> list[float]:
    """Their seconds over ours, in each round that both had."""
    return [a / b for a, b in zip(seconds[theirs], seconds[ours], strict=False)]


def median(values: Sequence[float]) -> float:
    """The median, to four digits that count."""
    return significant(statistics.median(values))


def extremes(values: Sequence[float]) -> list[float]:
    """[least, largest], to four digits that count."""
    return [significant(min(values)), significant(max(values))]


def significant(value: float) -> float:
    """To four digits that count."""
    return float(f"{value:.4g}")
