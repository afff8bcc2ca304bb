"""Memory of the selector's table."""

from __future__ import annotations

from pretrain.config import FITTED_STRATEGIES, PROBED
from pretrain.planning.layout import Layout

CELL = 8
"""Bytes of a count."""


def selector_bytes(layout: Layout) -> int:
    """Most bytes of the host's memory that a rank that reads data gives to its rows of the table.

    At most `selection.memory_gb`. Text has a row and a column for each token. Arithmetic has a row
    for each source (joint), each digit of it (pairwise) or each pair of digits (operand_pair), and
    a column for each value of each answer digit. 0 where nothing is counted.
    """
    selection, data = layout.config.selection, layout.config.data
    if selection.strategy not in FITTED_STRATEGIES or selection.estimator in PROBED:
        return 0
    cells = None
    if data.task in ("text", "corpus"):
        cells = layout.vocabulary**2 // layout.data_parallel
    elif data.task == "arithmetic":
        digits = data.digits + data.second_digits
        rows = {"joint": 10**digits, "pairwise": 10 * digits, "operand_pair": (10 * digits) ** 2}
        cells = rows[selection.estimator] * layout.vocabulary * (digits + 1)
    budget = selection.memory_bytes
    return budget if cells is None else min(budget, CELL * cells)
