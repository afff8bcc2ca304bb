"""Which rows a table has, how each is stored, and which rank holds it.

A row of c columns whose feature is in n pairs has at most min(n, c) cells. Stored whole it takes
8 c bytes; stored as the columns that occur, at most 12 min(n, c) bytes (a 4-byte column and an
8-byte count), and what is not needed is given back. In text, units follow Zipf's law, and most
columns of a row occur once n is 8 c: from there on a row is stored whole, or, where memory is
short, as soon as that bounds it better. Layouts, by what they promise:

    dense    every row whole: for tables of up to 64 MiB
    sparse   each row in the way that takes less; the same counts
    top_k    sparse, and only the K features that are in the most pairs have rows

All sizes are known before the first pair is counted, so a table never outgrows its budget half-way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pretrain.compiled import compiled

Layout = Literal["dense", "sparse", "top_k"]
LayoutChoice = Literal["auto", "dense", "sparse", "top_k"]

CELL = 8
OCCURRING_CELL = 12
WHOLE_AT = 8
"""Pairs per column from which on a row is stored whole."""
DENSE_LIMIT = 64 << 20
"""Bytes up to which a table is dense unless asked otherwise."""
SLACK = 1.1
"""Room of a rank above the even share of bytes."""


class BudgetError(ValueError):
    """A table that takes more bytes than it may have; the message says what would do."""


@dataclass(frozen=True)
class Plan:
    """Storage of a table.

    Attributes:
        layout: which was chosen.
        whole: [rows] bool, rows stored whole.
        capacity: [rows] int64 cells that a row has room for; 0 for a feature without a row.
        kept: [rows] bool, features that have a row.
    """

    layout: Layout
    whole: np.ndarray
    capacity: np.ndarray
    kept: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """[rows] int64 bytes of each row."""
        return self.capacity * np.where(self.whole, CELL, OCCURRING_CELL)

    @property
    def bytes(self) -> int:
        """Bytes of the table over all ranks."""
        return int(self.sizes.sum())


def shared_budget(budget: int, ranks: int) -> int:
    """Bytes that a table may have over `ranks` ranks of `budget` bytes each, with the slack that
    dealing out whole rows takes."""
    return budget if ranks == 1 else int(budget * ranks / SLACK)


def plan_table(
    pairs: np.ndarray,
    columns: int,
    budget: int,
    ranks: int = 1,
    layout: LayoutChoice = "auto",
    top_k: int | None = None,
) -> Plan:
    """Choose the layout: dense for a small table, else the first of sparse and top_k that fits.

    Args:
        pairs: [rows] int64 pairs that each feature is in.
        columns: width of the table.
        budget: bytes that each rank has for its part.
        ranks: ranks that share the table.
        layout: take this one instead.
        top_k: rows of layout top_k; as many as fit if not given.

    Raises:
        BudgetError: the layout that is asked for does not fit; the message says what would.
    """
    available = shared_budget(budget, ranks)
    everything = np.ones(len(pairs), dtype=bool)
    cells = np.minimum(pairs, columns)
    dense = Plan("dense", everything, np.full(len(pairs), columns, dtype=np.int64), everything)
    if layout == "dense" or (layout == "auto" and dense.bytes <= min(available, DENSE_LIMIT)):
        return _fitting(dense, available, budget, ranks)
    # Likely to be small, or certain to be.
    for whole in (pairs >= WHOLE_AT * columns, cells * OCCURRING_CELL >= columns * CELL):
        sparse = Plan("sparse", whole, np.where(whole, columns, cells), everything)
        if layout in ("auto", "sparse") and sparse.bytes <= available:
            return sparse
    if layout == "sparse":
        return _fitting(sparse, available, budget, ranks)
    order = np.argsort(-pairs, kind="stable")
    if top_k is None:
        top_k = int(np.searchsorted(np.cumsum(sparse.sizes[order]), available, side="right"))
    if top_k == 0:
        raise BudgetError(
            f"not one row of {columns:,} columns fits {ranks} rank(s) of {budget:,} bytes; raise "
            "the memory budget"
        )
    kept = np.zeros(len(pairs), dtype=bool)
    kept[order[:top_k]] = True
    return _fitting(
        Plan("top_k", sparse.whole & kept, np.where(kept, sparse.capacity, 0), kept),
        available,
        budget,
        ranks,
    )


def _fitting(plan: Plan, available: int, budget: int, ranks: int) -> Plan:
    if plan.bytes > available:
        raise BudgetError(
            f"layout {plan.layout} takes {plan.bytes:,} bytes, {ranks} rank(s) of {budget:,} bytes "
            f"hold {available:,}; use more ranks, a larger memory budget, or layout auto"
        )
    return plan


def assign_rows(work: np.ndarray, sizes: np.ndarray, ranks: int) -> np.ndarray:
    """Owner of each row: longest processing time first, with room for 10 % above the even share.

    Rows are dealt out from the one with the most work on, each to the rank with the least work so
    far (then the fewest bytes, then the lowest number) that has room for it (Graham, 1969). A row
    that fits nowhere goes to the rank with the fewest bytes. Every rank that computes this gets
    the same answer.

    Args:
        work: [rows] int64 pairs.
        sizes: [rows] int64 bytes.
        ranks: number of ranks.

    Returns:
        [rows] int32 rank numbers.
    """
    if ranks == 1:
        return np.zeros(len(work), dtype=np.int32)
    order = np.argsort(-work, kind="stable")
    room = int(SLACK * float(sizes.sum()) / ranks)
    return deal_out(work, sizes, order, ranks, max(room, int(sizes.max(initial=0))))


@compiled
def deal_out(
    work: np.ndarray, size: np.ndarray, order: np.ndarray, ranks: int, room: int
) -> np.ndarray:
    """Owner of each row of `order`; see :func:`assign_rows`."""
    owners = np.zeros(len(work), np.int32)
    load = np.zeros(ranks, np.int64)
    held = np.zeros(ranks, np.int64)
    for row in order:
        chosen = -1
        for rank in range(ranks):
            if held[rank] + size[row] > room:
                continue
            if (
                chosen < 0
                or load[rank] < load[chosen]
                or (load[rank] == load[chosen] and held[rank] < held[chosen])
            ):
                chosen = rank
        if chosen < 0:
            # It fits nowhere: to the rank that holds least.
            chosen = int(np.argmin(held))
        load[chosen] += work[row]
        held[chosen] += size[row]
        owners[row] = chosen
    return owners
