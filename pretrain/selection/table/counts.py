"""Joint counts of source features and target units, sharded over the data-parallel ranks.

Rows are features, columns are units, and each row lives on one rank. Ranks exchange the *tokens* of
their examples and count only the pairs whose row they own: no pair crosses the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from pretrain.ragged import Documents, Examples, Stream
from pretrain.selection.table import kernels
from pretrain.selection.table.collectives import Arriving, add_up_together, join, together, world
from pretrain.selection.table.rows import Table
from pretrain.selection.table.sharding import (
    BudgetError,
    LayoutChoice,
    Plan,
    assign_rows,
    plan_table,
)

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

Progress = Callable[[int], object]
"""Called with the tokens that were just done."""

UNBOUNDED = 1 << 31
AT_ONCE = 1 << 23
"""Tokens that are counted at once; each takes some 25 bytes of working memory."""
DEFAULT_BUDGET = 4 << 30
"""Bytes of the table on each rank."""


@dataclass(frozen=True)
class Pairs:
    """Which features and units of a document make a pair.

    Where units are tokens of the source itself, a unit's features are the tokens up to `before`
    positions ahead of it and up to `after` positions behind it, never itself. Where a document has
    a target of its own, each of its features makes a pair with each of its units.

    Attributes:
        before, after: None for all of the document.
        presence: count documents, not occurrences: a feature and a unit make one pair in each
            document that has both.
    """

    before: int | None = None
    after: int | None = None
    presence: bool = False

    def __post_init__(self) -> None:
        for name, size in (("before", self.before), ("after", self.after)):
            if size is not None and size < 0:
                raise ValueError(f"window {name} is {size}, expected 0 or more positions")
        if self.presence and (self.before, self.after) != (None, None):
            raise ValueError("presence is counted over whole documents; leave out before and after")

    @property
    def reach(self) -> tuple[int, int]:
        """(before, after) as numbers."""
        return (
            UNBOUNDED if self.before is None else self.before,
            UNBOUNDED if self.after is None else self.after,
        )

    def prepared(self, examples: Examples) -> Examples:
        """The examples as they are counted: with presence, each document's distinct tokens."""
        if not self.presence:
            return examples
        source, target = _distinct(examples.source), examples.target
        return Examples(source, None if target is None else _distinct(target))


def window(size: int, side: Literal["left", "right", "symmetric"] = "symmetric") -> Pairs:
    """Features within `size` positions to the left or right of a unit, or on both sides."""
    return Pairs(0 if side == "right" else size, 0 if side == "left" else size)


def _distinct(documents: Documents) -> Documents:
    return Documents(*kernels.distinct(documents.tokens, documents.offsets))


@dataclass(frozen=True)
class Marginals:
    """What is known of features and units before any pair is counted.

    Attributes:
        rows: [rows] int64 how often each feature occurs in pairs; with presence, its documents.
        columns: [columns] int64 likewise for units.
        total: all pairs; with presence, all documents.
        pairs: [rows] int64 pairs that each feature is in.
        documents: number of documents.
    """

    rows: np.ndarray
    columns: np.ndarray
    total: int
    pairs: np.ndarray
    documents: int

    def plus(self, other: Marginals) -> Marginals:
        """Both together."""
        return Marginals(
            self.rows + other.rows,
            self.columns + other.columns,
            self.total + other.total,
            self.pairs + other.pairs,
            self.documents + other.documents,
        )


def measure(
    stream: Stream,
    rows: int,
    columns: int,
    pairs: Pairs,
    group: dist.ProcessGroup | None = None,
    progress: Progress | None = None,
) -> Marginals:
    """Marginals over the examples of all ranks.

    Raises:
        ValueError: a feature or unit is out of range.
        UserError: another rank died.
    """
    lengths = [rows, columns, 2, *([rows, columns] if pairs.presence else [])]
    everyone = add_up_together(
        lambda: np.concatenate(_measure_own(stream, rows, columns, pairs, progress)),
        sum(lengths),
        group,
        "reading its examples",
    )
    parts = np.split(everyone, np.cumsum(lengths)[:-1])
    total, documents = parts[2].tolist()
    if pairs.presence:
        return Marginals(parts[3], parts[4], documents, parts[0], documents)
    return Marginals(parts[0], parts[1], total, parts[0], documents)


def _check(examples: Examples, rows: int, columns: int) -> None:
    if examples.target is None:
        examples.source.check(min(rows, columns), "source")
    else:
        examples.source.check(rows, "source")
        examples.target.check(columns, "target")


def _measure_own(
    stream: Stream, rows: int, columns: int, pairs: Pairs, progress: Progress | None
) -> list[np.ndarray]:
    """Pairs of each row, pairs of each column, (pairs, documents); with presence, documents of
    each row and of each column."""
    row_pairs, column_pairs = np.zeros(rows, np.int64), np.zeros(columns, np.int64)
    row_documents, column_documents = np.zeros(rows, np.int64), np.zeros(columns, np.int64)
    total = documents = 0
    for examples in stream():
        _check(examples, rows, columns)
        chunk = pairs.prepared(examples)
        target = chunk.source if chunk.target is None else chunk.target
        total += kernels.marginals(
            chunk.source.tokens,
            chunk.source.offsets,
            target.tokens,
            target.offsets,
            chunk.target is None,
            *pairs.reach,
            row_pairs,
            column_pairs,
        )
        documents += len(chunk)
        if pairs.presence:
            row_documents += np.bincount(chunk.source.tokens, minlength=rows)
            column_documents += np.bincount(target.tokens, minlength=columns)
        if progress:
            progress(examples.tokens)
    counted = [row_pairs, column_pairs, np.array([total, documents])]
    return counted + ([row_documents, column_documents] if pairs.presence else [])


@dataclass
class ShardedCounts:
    """The rows of one rank, and the marginals, which every rank has.

    Attributes:
        pairs: what was counted.
        marginals: over all ranks; exact for features without a row, too.
        layout: how rows are stored, see :mod:`pretrain.selection.table.sharding`.
        owners: [rows] int32 rank that holds each row; -1 for a feature without one.
        table: this rank's rows, in rising order of their features.
        group: the ranks that share the table; None for one process.
        row_groups: [rows] int64 group of each feature; None for one group.
        unit_width: columns of each group of units; a unit's values are told apart by the column.
    """

    pairs: Pairs
    marginals: Marginals
    layout: str
    owners: np.ndarray
    table: Table
    group: dist.ProcessGroup | None = None
    row_groups: np.ndarray | None = None
    unit_width: int | None = None

    @property
    def rows(self) -> int:
        """Features, with and without a row."""
        return len(self.owners)

    @property
    def columns(self) -> int:
        """Width of the table."""
        return self.table.columns

    @property
    def owned(self) -> np.ndarray:
        """[own rows] features whose rows this rank holds, rising."""
        return np.flatnonzero(self.owners == world(self.group)[0])

    @property
    def local(self) -> np.ndarray:
        """[rows] int32 this rank's row of each feature; the number of own rows for others."""
        owned = self.owned
        local = np.full(self.rows, len(owned), dtype=np.int32)
        local[owned] = np.arange(len(owned))
        return local

    @property
    def groups(self) -> tuple[np.ndarray, int, int]:
        """([rows] group of each feature, columns of a group of units, groups of features)."""
        row_groups = self.row_groups
        if row_groups is None:
            return np.zeros(self.rows, np.int64), self.unit_width or self.columns, 1
        return row_groups, self.unit_width or self.columns, int(row_groups.max(initial=-1)) + 1

    @property
    def rows_per_rank(self) -> tuple[int, ...]:
        """Rows that each rank holds."""
        held = np.bincount(self.owners[self.owners >= 0], minlength=world(self.group)[1])
        return tuple(held.tolist())

    def work(self) -> np.ndarray:
        """[ranks] int64 pairs that each rank counted; rows without a holder are left out."""
        held = self.owners >= 0
        ranks = world(self.group)[1]
        work = np.zeros(ranks, dtype=np.int64)
        np.add.at(work, self.owners[held], self.marginals.pairs[held])
        return work

    def count(
        self,
        stream: Stream,
        progress: Progress | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Add the pairs of every rank's examples to the rows, without making room for them: for
        the examples that the marginals announce.

        Args:
            stream: this rank's examples.
            progress: called with the tokens just done.
            device: count there, in torch, instead of in compiled loops on the CPU.

        Raises:
            ValueError: these are other examples.
            BudgetError: the device has too little memory.
            UserError: another rank gave up or died.
        """
        self._count(self._arriving(stream), progress, device)

    def _arriving(self, stream: Stream) -> Arriving:
        return _arriving(stream, self.rows, self.columns, self.pairs, self.group)

    def _count(
        self,
        arriving: Arriving,
        progress: Progress | None = None,
        device: torch.device | None = None,
    ) -> None:
        local, reach = self.local, self.pairs.reach
        block = None
        if device is not None:
            from pretrain.selection.table.device_counts import DeviceBlock

            block = DeviceBlock(local, self.table.rows, self.columns, device)
        for examples in _many(arriving, progress):
            if block is None:
                self.table.add(examples, local, *reach)
            else:
                block.add(examples, *reach)
        if block is not None:
            block.move_to(self.table)
        self.table.settle()

    def add(
        self, stream: Stream, budget: int = DEFAULT_BUDGET, progress: Progress | None = None
    ) -> None:
        """Count more examples into the table, whose rows stay where they are.

        Raises:
            BudgetError: this rank's rows would outgrow `budget` bytes; nothing was changed then.
        """
        arriving = self._arriving(stream)
        more = measure(stream, self.rows, self.columns, self.pairs, self.group, progress)
        marginals = self.marginals.plus(more)
        with together(self.group, "making room for more examples"):
            self._make_room(marginals.pairs, budget)
        self.marginals = marginals
        self._count(arriving, progress)

    def _make_room(self, pairs: np.ndarray, budget: int) -> None:
        owned = self.owned
        if self.layout == "dense":
            return
        try:
            room = plan_table(pairs[owned], self.columns, budget, 1, "sparse")
        except BudgetError as error:
            raise BudgetError(
                f"with the new examples the table outgrows rank {world(self.group)[0]}, whose "
                f"memory budget is {budget:,} bytes; raise the budget, use more ranks, or stop "
                "refreshing"
            ) from error
        self.table = self.table.grown(room.whole, room.capacity)


def _arriving(
    stream: Stream, rows: int, columns: int, pairs: Pairs, group: dist.ProcessGroup | None
) -> Arriving:
    """Examples of all ranks as they are counted; the first set out at once."""

    def prepared() -> Iterator[Examples]:
        for examples in stream():
            _check(examples, rows, columns)
            yield pairs.prepared(examples)

    return Arriving(prepared(), rows, columns, group)


def _many(arriving: Arriving, progress: Progress | None) -> Iterator[Examples]:
    """Examples of all ranks, many at once: each time, rows that occur are read and written."""
    waiting: list[Examples] = []
    tokens = 0
    for own, examples in arriving:
        waiting.append(examples)
        tokens += examples.tokens
        if progress:
            progress(own)
        if tokens >= AT_ONCE:
            yield join(waiting)
            waiting, tokens = [], 0
    if waiting:
        yield join(waiting)


def empty_counts(
    marginals: Marginals,
    pairs: Pairs,
    group: dist.ProcessGroup | None = None,
    budget: int = DEFAULT_BUDGET,
    layout: LayoutChoice = "auto",
    top_k: int | None = None,
    row_groups: np.ndarray | None = None,
    unit_width: int | None = None,
) -> ShardedCounts:
    """Room for the pairs that `marginals` announce, dealt out over the ranks of `group`.

    Raises:
        BudgetError: the layout that is asked for does not fit the budget.
    """
    rank, ranks = world(group)
    columns = len(marginals.columns)
    plan = plan_table(marginals.pairs, columns, budget, ranks, layout, top_k)
    owners = _owners(plan, marginals.pairs, ranks)
    owned = owners == rank
    table = Table.empty(plan.whole[owned], plan.capacity[owned], columns)
    return ShardedCounts(
        pairs, marginals, plan.layout, owners, table, group, row_groups, unit_width
    )


def _owners(plan: Plan, work: np.ndarray, ranks: int) -> np.ndarray:
    owners = np.full(len(work), -1, dtype=np.int32)
    owners[plan.kept] = assign_rows(work[plan.kept], plan.sizes[plan.kept], ranks)
    return owners


def count_pairs(
    stream: Stream,
    rows: int,
    columns: int,
    pairs: Pairs,
    group: dist.ProcessGroup | None = None,
    budget: int = DEFAULT_BUDGET,
    layout: LayoutChoice = "auto",
    top_k: int | None = None,
    row_groups: np.ndarray | None = None,
    unit_width: int | None = None,
    progress: Progress | None = None,
    device: torch.device | None = None,
) -> ShardedCounts:
    """Count this rank's examples together with those of the other ranks of `group`.

    Two passes over the stream: the first, local, finds the marginals, so that rows can be stored
    and dealt out well; the second counts. The result does not depend on the number of ranks or on
    how examples are spread over them, except for which rank holds which row, and, where the
    layout is top_k and K is not given, for the number of rows.

    Args:
        stream: this rank's examples.
        rows, columns: features are in [0, rows), units in [0, columns).
        pairs: which of them make a pair.
        group: the ranks that share the table, gloo or NCCL.
        budget: bytes that each rank has for its rows.
        layout, top_k: see :func:`pretrain.selection.table.sharding.plan_table`.
        row_groups, unit_width: see :class:`ShardedCounts`.
        progress: called with tokens done, each of this rank's tokens twice.
        device: count there, in torch, instead of in compiled loops on the CPU.

    Raises:
        ValueError: a feature or unit is out of range.
        BudgetError: the layout does not fit the budget, or the device has too little memory.
        UserError: another rank gave up or died.
    """
    arriving = _arriving(stream, rows, columns, pairs, group)
    marginals = measure(stream, rows, columns, pairs, group, progress)
    counts = empty_counts(marginals, pairs, group, budget, layout, top_k, row_groups, unit_width)
    counts._count(arriving, progress, device)
    return counts
