"""A curve drawn with characters: two by four dots in each cell, or one in plain ASCII."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

BRAILLE = 0x2800
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bits of a braille cell's dots, by column and from the top."""

Point = tuple[float, float]


def curve(points: Sequence[Point], width: int, height: int, ascii_only: bool = False) -> list[str]:
    """Lines of `width` columns: values against steps with labels on both axes.

    Args:
        points: step and value, steps growing; values that are not finite are left out.
        height: lines, the two of the steps' axis included; at least 4.
        ascii_only: no characters beyond ASCII.
    """
    found = [(x, y) for x, y in points if math.isfinite(y)]
    if len(found) < 2:
        return []
    rows = height - 2
    low, high = min(y for _, y in found), max(y for _, y in found)
    if low == high:
        low, high = low - 0.5, high + 0.5
    labels = _labels(low, high, rows)
    margin = max(map(len, labels))
    columns = width - margin - 2
    cells = _cells(found, low, high, columns, rows, ascii_only)
    tick, corner, rule = ("|", "+", "-") if ascii_only else ("┤", "└", "─")
    lines = [f"{label:>{margin}} {tick}{row}" for label, row in zip(labels, cells, strict=True)]
    first, last = f"{found[0][0]:,.0f}", f"step {found[-1][0]:,.0f}"
    lines.append(f"{'':{margin}} {corner}{rule * columns}")
    lines.append(f"{'':{margin + 2}}{first}{last:>{columns - len(first)}}")
    return lines


def _labels(low: float, high: float, rows: int) -> list[str]:
    """At the top, the bottom, and between them where there is room."""
    places = min(6, max(2, 1 - math.floor(math.log10(high - low))))
    shown = {0, rows - 1} | ({rows // 2} if rows >= 5 else set())
    return [
        f"{high - (high - low) * row / max(1, rows - 1):.{places}f}" if row in shown else ""
        for row in range(rows)
    ]


def _cells(
    points: Sequence[Point], low: float, high: float, columns: int, rows: int, ascii_only: bool
) -> list[str]:
    across, down = (1, 1) if ascii_only else (2, 4)
    wide, tall = columns * across, rows * down
    first, last = points[0][0], points[-1][0]
    spots = [
        (
            round((x - first) / ((last - first) or 1.0) * (wide - 1)),
            round((high - y) / (high - low) * (tall - 1)),
        )
        for x, y in points
    ]
    marked = {spot for pair in pairwise(spots) for spot in _line(*pair)}
    if ascii_only:
        return ["".join("*" if (x, y) in marked else " " for x in range(wide)) for y in range(tall)]
    cells = [[0] * columns for _ in range(rows)]
    for x, y in marked:
        cells[y // 4][x // 2] |= DOTS[x % 2][y % 4]
    return ["".join(chr(BRAILLE + cell) if cell else " " for cell in row) for row in cells]


def _line(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """Dots between two dots, both included."""
    (x, y), (to_x, to_y) = start, end
    count = max(abs(to_x - x), abs(to_y - y), 1)
    return [
        (round(x + (to_x - x) * i / count), round(y + (to_y - y) * i / count))
        for i in range(count + 1)
    ]
