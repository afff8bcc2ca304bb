"""Memory of the selector's table."""

from __future__ import annotations

from pretrain import registry
from pretrain.planning.layout import Layout

CELL = 8
"""Bytes of a count."""


def selector_bytes(layout: Layout) -> int:
    """Most bytes of the host's memory that a rank that reads data gives to its rows of the table.

    At most `selection.memory_gb`, and the counts that the task says, at most 8 bytes each. 0 where
    nothing is counted.
    """
    selection = layout.config.selection
    counts = selection.fitted and _counts(selection.estimator)
    if not counts and not layout.objective.needs_table:
        return 0
    data = layout.config.data
    cells = data.table_cells(selection, layout.vocabulary, layout.data_parallel)
    budget = selection.memory_bytes
    return budget if cells is None else min(budget, CELL * cells)


def _counts(estimator: str) -> bool:
    """Whether an estimator counts, and does not train a probe alone."""
    if estimator in registry.ORDER_ESTIMATORS:
        return bool(registry.load(registry.ORDER_ESTIMATORS[estimator]).counts)
    return estimator != "v_information"
