"""The progress bar: twice a second on a terminal, every half minute in a log. On a terminal its
clock moves every second, also while a unit takes longer."""

from __future__ import annotations

import sys
import threading
import time

from tqdm import tqdm

REDRAW_SECONDS = 1.0


def progress_bar(
    total: int,
    label: str,
    unit: str = "step",
    shown: bool = True,
    delay: float = 0.0,
    start: int = 0,
) -> tqdm:
    """A bar over `total` units with rate and time left, on stderr, from `delay` seconds on; the
    first `start` were done before and tell nothing of the rate."""
    terminal = sys.stderr.isatty()
    bar = tqdm(
        total=total,
        initial=start,
        desc=label,
        unit=unit,
        disable=not shown,
        delay=delay,
        dynamic_ncols=terminal,
        mininterval=0.5 if terminal else 30.0,
        maxinterval=1.0 if terminal else 60.0,
        miniters=1,  # by the clock alone: how long the units before took says nothing of the next
    )
    if shown and terminal:
        threading.Thread(target=_redraw, args=(bar, delay), name="progress", daemon=True).start()
    return bar


def _redraw(bar: tqdm, delay: float) -> None:
    """Draw it again and again until it is closed."""
    time.sleep(delay)
    while True:
        time.sleep(REDRAW_SECONDS)
        with bar.get_lock():
            if bar.disable:
                return
            bar.refresh(nolock=True)
