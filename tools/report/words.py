"""Numbers, names and orders in the forms in which the table, the plot and the page show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ABBREVIATION = 4
UNITS_SHOWN = 12
"""Of longer orders only the first units are written."""
FIRST_SHOWN = 3


def si(value: float) -> str:
    """A number to three figures with an SI suffix: 1280000 is `1.28 M`."""
    for exponent, suffix in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if value >= 0.9995 * 10**exponent:
            return f"{value / 10**exponent:.3g} {suffix}"
    return f"{value:.3g}"


def ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def held_out(summary: dict[str, Any]) -> str:
    """What models are scored on."""
    return f"held-out {summary['held_out']}"


def order_words(order: Sequence[int] | None, names: Sequence[str], arrow: str) -> str:
    """The names in an order; of a long one, the first ones."""
    if order is None:
        return "differs by seed"
    if not order:
        return "each example its own"
    if len(order) <= UNITS_SHOWN:
        return arrow.join(names[unit] for unit in order)
    first = arrow.join(names[unit] for unit in order[:FIRST_SHOWN])
    return f"{first}{arrow}… and {len(order) - FIRST_SHOWN} more"


def short_order(order: Sequence[int] | None, names: Sequence[str], width: int = 17) -> str:
    """The order in abbreviated names if they fit, else in numbers counted from 1."""
    by_name = order_words(order, abbreviate(names), ">")
    if len(by_name) <= width:
        return by_name
    numbers = [str(index + 1) for index in range(len(names))]
    return clip(order_words(order, numbers, ">"), width)


def abbreviate(names: Sequence[str]) -> list[str]:
    """The shortest prefix of each name that is its own; numbers from 1 where one gets long."""
    prefixes = [_own_prefix(name, names) for name in names]
    if any(not 0 < len(prefix) <= ABBREVIATION for prefix in prefixes):
        return [str(number) for number in range(1, len(names) + 1)]
    return prefixes


def _own_prefix(name: str, names: Sequence[str]) -> str:
    for length in range(1, len(name) + 1):
        if sum(other.startswith(name[:length]) for other in names) == 1:
            return name[:length]
    return ""


def clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def seeds_note(summary: dict[str, Any]) -> str:
    counts = {len(entry["seeds"]) for entry in summary["strategies"].values()}
    if counts == {1}:
        return "one seed per strategy"
    if len(counts) == 1:
        return f"thick: mean of {counts.pop()} seeds, thin: single seeds"
    return "thick: mean over seeds, thin: single seeds"


def printable(text: str) -> str:
    """The text with a space in place of each character that no font draws."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
