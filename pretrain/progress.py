"""The progress bar: twice a second on a terminal, every half minute in a log."""

from __future__ import annotations

import sys

from tqdm import tqdm


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
    return tqdm(
        total=total,
        initial=start,
        desc=label,
        unit=unit,
        disable=not shown,
        delay=delay,
        dynamic_ncols=terminal,
        mininterval=0.5 if terminal else 30.0,
        maxinterval=1.0 if terminal else 60.0,
    )
