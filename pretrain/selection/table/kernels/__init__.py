"""Inner loops of the selector, compiled by numba. They hold no lock of the interpreter while they
run, so a thread in them does not slow the training step.

A *feature* is a row of the table, a *unit* a column.
"""

from pretrain.selection.table.kernels.pairs import add_pairs, distinct, group_by_row, marginals
from pretrain.selection.table.kernels.rows import (
    Rows,
    add_cells,
    close_gaps,
    copy_cells,
    hash_cells,
    spread,
)
from pretrain.selection.table.kernels.scores import (
    SMALL,
    presence_information,
    score,
    spectrum,
)
from pretrain.selection.table.kernels.subsets import add_blocks, mark_values, number_values

__all__ = [
    "SMALL",
    "Rows",
    "add_blocks",
    "add_cells",
    "add_pairs",
    "close_gaps",
    "copy_cells",
    "distinct",
    "group_by_row",
    "hash_cells",
    "marginals",
    "mark_values",
    "number_values",
    "presence_information",
    "score",
    "spectrum",
    "spread",
]
