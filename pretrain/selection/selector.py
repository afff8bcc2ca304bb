"""The selector inside a job: fitted once on the training split, then a frozen order.

Only the ranks that read data take part in the fit; the others are told the result.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.distributed as dist

from pretrain.config import FITTED_STRATEGIES, SelectionConfig
from pretrain.selection.counts import Progress
from pretrain.selection.estimators import ESTIMATORS, Correction, mutual_information
from pretrain.selection.exchange import world
from pretrain.selection.positions import count_positions
from pretrain.selection.strategies import Order, choose_order
from pretrain.selection.transforms import Reorder


@dataclass(frozen=True)
class Selection:
    """What was selected, and on what evidence.

    Attributes:
        strategy: name of the strategy.
        order: units in the order in which they are predicted.
        unit_names: of the units in natural order.
        estimator, correction: None where nothing was fitted.
        bits: MI of each unit in natural order; None where nothing was fitted.
        examples: examples counted.
        rows: rows of the table over all ranks.
        rows_per_rank: rows that each rank holds.
        seconds: wall time of the fit.
    """

    strategy: str
    order: Order
    unit_names: tuple[str, ...]
    estimator: str | None = None
    correction: str | None = None
    bits: tuple[float, ...] | None = None
    examples: int = 0
    rows: int = 0
    rows_per_rank: tuple[int, ...] = ()
    seconds: float = 0.0

    @property
    def transform(self) -> Reorder:
        """The reordering of targets, with its inverse."""
        return Reorder(self.order)

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the order; the same for any number of ranks."""
        bits = None if self.bits is None else [value.hex() for value in self.bits]
        what = [self.strategy, self.order, self.estimator, self.correction, bits, self.examples]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """JSON object with every attribute and the fingerprint."""
        return json.dumps({**asdict(self), "fingerprint": self.fingerprint}, indent=2) + "\n"

    def table(self) -> str:
        """The scores and the order they imply, for people."""
        width = max(len(name) for name in self.unit_names)
        lines = []
        if self.bits is not None:
            lines.append(
                f"MI(source; unit), estimator {self.estimator}, correction {self.correction}, "
                f"{self.examples:,} examples"
            )
            lines += [
                f"  {number}  {name:<{width}}  {value:7.4f} bits"
                for number, (name, value) in enumerate(zip(self.unit_names, self.bits, strict=True))
            ]
        names = ", ".join(self.unit_names[unit] for unit in self.order)
        lines.append(f"order of {self.strategy}: {names}")
        if self.bits is not None:
            lines.append(
                f"{self.rows:,} rows over {len(self.rows_per_rank)} rank(s), fitted in "
                f"{self.seconds:.2f} s"
            )
        return "\n".join(lines)


def score_units(
    source: np.ndarray,
    target: np.ndarray,
    vocabulary: int,
    estimator: str,
    correction: Correction,
    group: dist.ProcessGroup | None = None,
    chunk_tokens: int = 1 << 20,
    progress: Progress | None = None,
) -> tuple[np.ndarray, int, tuple[int, ...]]:
    """MI of every unit in bits [U], the number of examples, and the rows that each rank holds.

    Args are those of :func:`pretrain.selection.positions.count_positions`; the result is the same
    on every rank and for any number of ranks.
    """
    chosen = ESTIMATORS[estimator]
    table = count_positions(
        source,
        target,
        chosen.slots(source.shape[1]),
        vocabulary,
        group,
        chunk_tokens,
        progress=progress,
    )
    counts = table.counts
    bits = chosen.combine(mutual_information(counts, correction))
    held = np.bincount(counts.owners, minlength=world(group)[1])
    return bits, counts.marginals.documents, tuple(held.tolist())


def fit(
    config: SelectionConfig,
    source: np.ndarray,
    target: np.ndarray,
    vocabulary: int,
    unit_names: Sequence[str],
    group: dist.ProcessGroup | None = None,
    progress: Progress | None = None,
) -> Selection:
    """Fit the selection on the examples of all readers.

    Args:
        config: strategy, estimator and how ties are broken.
        source: [n, J] this reader's share of the training split.
        target: [n, U] likewise, natural order.
        vocabulary: values that a source column or unit can take.
        unit_names: names of the units.
        group: the readers.
        progress: called with (done, all).

    Raises:
        ValueError: `selection.fixed` does not fit the task's units.
    """
    units = len(unit_names)
    started = time.perf_counter()
    if config.strategy not in FITTED_STRATEGIES:
        order = choose_order(config.strategy, units, seed=config.seed, fixed=config.fixed)
        return Selection(config.strategy, order, tuple(unit_names))
    bits, examples, held = score_units(
        source,
        target,
        vocabulary,
        config.estimator,
        config.correction,
        group,
        config.chunk_tokens,
        progress,
    )
    return Selection(
        strategy=config.strategy,
        order=choose_order(config.strategy, units, bits.tolist(), config.tie_bits),
        unit_names=tuple(unit_names),
        estimator=config.estimator,
        correction=config.correction,
        bits=tuple(bits.tolist()),
        examples=examples,
        rows=sum(held),
        rows_per_rank=held,
        seconds=time.perf_counter() - started,
    )


def share(selection: Selection | None, group: dist.ProcessGroup) -> Selection:
    """Hand a reader's selection (rank 0 of `group`) to the other ranks of its model copy."""
    if dist.get_world_size(group) == 1:
        assert selection is not None
        return selection
    source = dist.get_global_rank(group, 0)
    text = selection.to_json().encode() if selection is not None else b""
    length = torch.tensor([len(text)])
    dist.broadcast(length, source, group=group)
    data = torch.zeros(int(length), dtype=torch.uint8)
    if selection is not None:
        data = torch.tensor(list(text), dtype=torch.uint8)
    dist.broadcast(data, source, group=group)
    return from_json(bytes(data.tolist()).decode())


def from_json(text: str) -> Selection:
    """Inverse of :meth:`Selection.to_json`.

    Raises:
        ValueError: the stored fingerprint does not fit the stored values.
    """
    values = json.loads(text)
    fingerprint = values.pop("fingerprint")
    for name in ("order", "unit_names", "bits", "rows_per_rank"):
        if values[name] is not None:
            values[name] = tuple(values[name])
    selection = Selection(**values)
    if selection.fingerprint != fingerprint:
        raise ValueError(
            f"selection's fingerprint is {selection.fingerprint}, but {fingerprint} is recorded; "
            "the file was changed, fit it again"
        )
    return selection
