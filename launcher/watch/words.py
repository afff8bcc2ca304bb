"""Amounts in words that fit a line."""

from __future__ import annotations

from itertools import pairwise

UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """Seconds in the two largest units that count: `2 h 5 min`, `45 s`."""
    left = int(seconds + 0.5)
    for (size, unit), (below, smaller) in pairwise(UNITS):
        if left >= size:
            rest = left % size // below
            return f"{left // size:,} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{left} s"


def short_seconds(seconds: float) -> str:
    """A step's time: `12.3 s`, `450 ms`."""
    if seconds >= 1.0:
        return f"{seconds:.3g} s" if seconds < 1000 else duration(seconds)
    return f"{1000.0 * seconds:.3g} ms"


def size(count: float) -> str:
    """Bytes in decimal units, as disks are sold."""
    for scale, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} B"


def rate(value: float) -> str:
    """A number of tokens: `16,700`, `1.32 million`."""
    if value >= 1e6:
        return f"{value / 1e6:,.2f} million"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def clean(text: str) -> str:
    """Text of a file on one line, without characters that a terminal obeys."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
