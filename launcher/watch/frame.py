"""A run drawn for a terminal: for 80 columns one thing below the other, for more the curve at the
left and the figures at its right."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from launcher.watch.curve import curve
from launcher.watch.snapshot import Snapshot
from launcher.watch.state import State, judge, silent
from launcher.watch.words import clean, duration, rate, short_seconds, size

PRINTED_HEIGHT = 24
"""Lines of a frame that is printed once."""
WIDE = 120
FIGURES_WIDTH = 56
NAMED = 3
LABEL = 12
COLOURS = {"good": "green", "busy": "cyan", "waiting": "yellow", "bad": "red"}
BAD, DULL = "red", "dim"
LEAST_CURVE, MOST_CURVE = 5, 20
POINTS = 1_000

Figure = tuple[str, Text]


def frame(snapshot: Snapshot, width: int, height: int, ascii_only: bool = False) -> RenderableType:
    """The screen of a run.

    Args:
        width: columns of the terminal.
        height: its lines; the curve takes those that are left.
        ascii_only: draw without characters beyond ASCII.
    """
    state = judge(snapshot)
    figures = list(_figures(snapshot, state))
    head: list[RenderableType] = [_title(snapshot, state, width)]
    if state.detail:
        head.append(Text(clean(state.detail), COLOURS[state.mood]))
    head.append(_progress(snapshot, state))
    if width >= WIDE:
        sides = Table.grid(padding=(0, 2), expand=True)
        sides.add_column(ratio=1)
        sides.add_column(width=FIGURES_WIDTH)
        rows = min(MOST_CURVE, max(LEAST_CURVE, height - 6))
        drawn = _curve(snapshot, width - FIGURES_WIDTH - 4, rows, ascii_only)
        sides.add_row(drawn, _table(figures))
        return Group(*head, Text(), sides)
    wrapped = len(state.detail) // width
    room = height - _lines(figures, width) - len(head) - wrapped - 3
    rows = min(MOST_CURVE, max(LEAST_CURVE, room))
    return Group(*head, Text(), _curve(snapshot, width, rows, ascii_only), Text(), _table(figures))


def _title(s: Snapshot, state: State, width: int) -> Table:
    table = Table.grid(expand=True)
    table.add_column(ratio=1)
    table.add_column(justify="right")
    clock = time.strftime("%H:%M:%S", time.localtime(s.now))
    room = width - len(state.name) - len(clock) - 4
    name = clean(str(s.directory))
    if len(name) > room:
        name = "..." + name[3 - room :]
    right = Text.assemble((state.name, f"bold {COLOURS[state.mood]}"), (f"  {clock}", DULL))
    table.add_row(Text(name, "bold"), right)
    return table


def _progress(s: Snapshot, state: State) -> RenderableType:
    if s.asked.steps is None:
        return Text(f"step {s.step:,}")
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(no_wrap=True, justify="right")
    left = s.seconds_left
    share = f"{100 * s.step / s.asked.steps:.0f} %"
    if left is not None and state.under_way:
        share += f", {duration(left)} left"
    bar = ProgressBar(
        s.asked.steps, s.step, complete_style=COLOURS[state.mood], finished_style="green"
    )
    table.add_row(f"step {s.step:,} of {s.asked.steps:,}", bar, share)
    return table


def _curve(s: Snapshot, width: int, height: int, ascii_only: bool) -> Text:
    points = [
        (record["step"], record["loss"])
        for record in s.metrics.objects[-POINTS:]
        if isinstance(record.get("loss"), float) and isinstance(record.get("step"), int)
    ]
    lines = curve(points, width, height - 1, ascii_only)
    if not lines:
        return Text("loss: fewer than two values so far", DULL)
    return Text("\n".join(["loss per target token, in nats", *lines]), no_wrap=True)


def _table(figures: list[Figure]) -> Table:
    table = Table.grid(padding=(0, 0))
    table.add_column(width=LABEL, style=DULL)
    table.add_column()
    for label, value in figures:
        table.add_row(label, value)
    return table


def _lines(figures: list[Figure], width: int) -> int:
    room = width - LABEL
    return sum(max(1, math.ceil(len(value.plain) / room)) for _, value in figures)


def _figures(s: Snapshot, state: State) -> Iterator[Figure]:
    last = s.metrics.last
    if _number(last, "loss"):
        yield "loss", Text(f"{last['loss']:.4f} at step {last.get('step', 0):,}")
    evaluation = s.evaluations.last
    headline = evaluation.get("headline", "")
    if _number(evaluation.get("metrics"), headline):
        value = evaluation["metrics"][headline]
        name = clean(str(headline)).replace("_", " ")
        yield "evaluation", Text(f"{name} {value:.4f} at step {evaluation.get('step', 0):,}")
    if s.step_seconds is not None:
        yield "speed", Text(_speed(s, s.step_seconds))
    yield "checkpoint", _checkpoint(s, state)
    yield "bad steps", _bad_steps(s)
    went_on = s.went_on_at
    if went_on:
        shown = ", ".join(f"{step:,}" for step in went_on[-NAMED:])
        dots = "... " if len(went_on) > NAMED else ""
        yield "restarts", Text(f"{len(went_on)}, from step {dots}{shown}")
    else:
        yield "restarts", Text("none")
    yield from _ranks(s, state)
    if s.scheduled is not None:
        job = s.scheduled
        where = f" on {job.nodes}" if job.nodes else ""
        spent = f", {job.elapsed} of {job.limit}" if job.elapsed else ""
        yield "job", Text(clean(f"{job.number} {job.state}{where}{spent}"))
    elif s.job:
        yield "job", Text(clean(s.job))


def _speed(s: Snapshot, step_seconds: float) -> str:
    text = f"{short_seconds(step_seconds)} a step"
    tokens, mfu = s.typical("tokens_per_second"), s.typical("mfu")
    if tokens is not None:
        text = f"{rate(tokens)} tokens/s, {text}"
    return text if mfu is None else f"{text}, MFU {100 * mfu:.1f} %"


def _checkpoint(s: Snapshot, state: State) -> Text:
    text = Text()
    if s.checkpoint is None:
        text.append("none yet" if state.under_way else "none")
    else:
        ago = duration(max(0.0, s.now - s.checkpoint.time))
        text.append(f"step {s.checkpoint.step:,}, {ago} ago")
        if s.checkpoint.size is not None:
            text.append(f", {size(s.checkpoint.size)}")
    if s.saving is not None:
        half = "is being written" if state.under_way else "was left half written"
        text.append(f"; step {s.saving:,} {half}")
    return text


def _bad_steps(s: Snapshot) -> Text:
    found = s.bad_steps
    back = f"; rolled back {s.rolled_back} times" if s.rolled_back else ""
    if not found.objects:
        return Text("none" + back)
    count = f"{len(found.objects):,}" if found.whole else f"more than {len(found.objects):,}"
    last = found.last
    why = clean(str(last.get("reason", "")))
    return Text(f"{count}, the last {last.get('step', '?')}: {why}{back}", BAD)


def _ranks(s: Snapshot, state: State) -> Iterator[Figure]:
    if s.ranks is None or not s.ranks.ranks:
        return
    ranks = s.ranks.ranks
    hosts = len({rank.host for rank in ranks})
    text = f"{len(ranks):,} on {hosts:,} host{'s' * (hosts > 1)}"
    if not s.result:
        text += f", heard {duration(s.seconds_unheard or 0.0)} ago"
    yield "ranks", Text(text)
    if s.ranks.slow and state.under_way:
        yield "slow", Text(_listed([clean(slow) for slow in s.ranks.slow]), BAD)
    quiet = [f"{clean(str(r))}, {duration(r.seconds_silent)}" for r in silent(s)]
    if quiet and state.name != "silent":  # its detail names them
        yield "silent", Text(_listed(quiet), BAD)


def _listed(names: list[str]) -> str:
    more = f"; and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return "; ".join(names[:NAMED]) + more


def _number(values: Any, name: str) -> bool:
    return isinstance(values, dict) and isinstance(values.get(name), int | float)
