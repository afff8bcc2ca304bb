"""The selector inside a job: fitted once on the training split, then a frozen order.

Only the ranks that read data take part in the fit; the others are told the result.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.distributed as dist

from pretrain.config import FITTED_STRATEGIES, SelectionConfig
from pretrain.errors import UserError
from pretrain.selection.estimators.chain import chain_order
from pretrain.selection.estimators.information import ESTIMATORS, mutual_information
from pretrain.selection.estimators.probe import v_information
from pretrain.selection.orders.learned import learn_order
from pretrain.selection.orders.strategies import Order, choose_order
from pretrain.selection.orders.transforms import Reorder
from pretrain.selection.table.collectives import add_up
from pretrain.selection.table.counts import Progress
from pretrain.selection.table.positions import PositionCounts, count_positions

MANY, HEAD, TAIL = 24, 10, 5
"""Of more units than MANY, a table shows the first HEAD and the last TAIL."""


@dataclass(frozen=True)
class Selection:
    """What was selected, and on what evidence.

    Attributes:
        strategy: name of the strategy.
        order: units in the order in which they are predicted; empty where each example has an
            order of its own.
        unit_names: of the units in natural order.
        estimator, correction: None where nothing was fitted.
        bits: MI of each unit in natural order; None where nothing was fitted.
        examples: examples counted.
        rows: rows of the table over all ranks.
        rows_per_rank: rows that each rank holds.
        seconds: wall time of the fit.
        flops: model FLOPs of the fit over all ranks; None where it counted.
        evidence: fingerprint of the table and settings by which each example is scored; None where
            all have one order.
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
    flops: int | None = None
    evidence: str | None = None

    @property
    def transform(self) -> Reorder:
        """The reordering of targets, with its inverse."""
        return Reorder(self.order)

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the order; the same for any number of ranks."""
        bits = None if self.bits is None else [value.hex() for value in self.bits]
        what = [self.strategy, self.order, self.estimator, self.correction, bits, self.examples]
        what += [self.evidence] if self.evidence else []
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """JSON object with every attribute and the fingerprint."""
        return json.dumps({**asdict(self), "fingerprint": self.fingerprint}, indent=2) + "\n"

    def table(self) -> str:
        """The scores and the order they imply, for people; of many units, the first and last."""
        lines = []
        if self.estimator is not None:
            lines.append(
                f"MI(source; unit), estimator {self.estimator}, "
                f"{'' if self.correction is None else f'correction {self.correction}, '}"
                f"{self.examples:,} examples"
            )
        if self.bits is not None:
            lines += self._rows(self.bits)
        chosen = self.order or self.estimator  # without either there is nothing to be ordered
        lines.append(
            f"order of {self.strategy}: {self._order_words()}"
            if chosen
            else f"strategy {self.strategy}"
        )
        if self.rows:
            lines.append(
                f"{self.rows:,} rows over {len(self.rows_per_rank)} rank(s), fitted in "
                f"{self.seconds:.2f} s"
            )
        return "\n".join(lines)

    def _rows(self, bits: Sequence[float]) -> list[str]:
        """Units with their bits: few in natural order, many as they are predicted."""
        units = len(self.unit_names)
        shown = list(range(units))
        if units > MANY:
            shown = [*self.order[:HEAD], *self.order[-TAIL:]]
        name, number = max(len(self.unit_names[u]) for u in shown), len(str(units - 1))
        rows = [
            f"  {u:>{number}}  {self.unit_names[u]:<{name}}  {bits[u]:7.4f} bits" for u in shown
        ]
        if units > MANY:
            rows.insert(HEAD, f"  ... {units - HEAD - TAIL} more ...")
        return rows

    def _order_words(self) -> str:
        if not self.order:
            return f"each example's own, by {self.estimator}"
        names = [self.unit_names[unit] for unit in self.order]
        if len(names) > MANY:
            names[HEAD:-TAIL] = [f"... {len(names) - HEAD - TAIL} more ..."]
        return ", ".join(names)


def fit_table(
    config: SelectionConfig,
    source: np.ndarray,
    target: np.ndarray,
    vocabulary: int,
    group: dist.ProcessGroup | None = None,
    progress: Progress | None = None,
) -> PositionCounts:
    """Count what the estimator of `config` looks at, over the examples of all readers.

    Args and errors: see :func:`pretrain.selection.table.positions.count_positions`.

    Raises:
        UserError: `selection.count_on` is gpu and there is none.
    """
    return count_positions(
        source,
        target,
        ESTIMATORS[config.estimator].slots(source.shape[1]),
        vocabulary,
        group,
        config.chunk_tokens,
        config.memory_bytes,
        progress=progress,
        device=counting_device(config),
    )


def counting_device(config: SelectionConfig) -> torch.device | None:
    """Where pairs are counted; None for the CPU's compiled loops.

    Raises:
        UserError: `selection.count_on` is gpu and there is none.
    """
    if config.count_on == "cpu":
        return None
    if not torch.cuda.is_available():
        raise UserError("selection.count_on gpu: no CUDA device is visible; set it to cpu")
    return torch.device("cuda", torch.cuda.current_device())


def select(
    config: SelectionConfig,
    table: PositionCounts,
    unit_names: Sequence[str],
    seconds: float = 0.0,
) -> Selection:
    """The order that a table implies; the same for any number of ranks."""
    counts = table.counts
    bits = ESTIMATORS[config.estimator].combine(mutual_information(counts, config.correction))
    return _selected(
        config, bits, unit_names, counts.marginals.documents, counts.rows_per_rank, seconds
    )


def _selected(
    config: SelectionConfig,
    bits: np.ndarray,
    unit_names: Sequence[str],
    examples: int,
    held: tuple[int, ...],
    seconds: float,
) -> Selection:
    units = len(unit_names)
    return Selection(
        strategy=config.strategy,
        order=choose_order(config.strategy, units, bits.tolist(), config.tie_bits),
        unit_names=tuple(unit_names),
        estimator=config.estimator,
        correction=None if config.estimator not in ESTIMATORS else config.correction,
        bits=tuple(bits.tolist()),
        examples=examples,
        rows=sum(held),
        rows_per_rank=held,
        seconds=seconds,
    )


def fit(
    config: SelectionConfig,
    source: np.ndarray,
    target: np.ndarray,
    vocabulary: int,
    unit_names: Sequence[str],
    group: dist.ProcessGroup | None = None,
    progress: Progress | None = None,
) -> tuple[Selection, PositionCounts | None]:
    """Fit the selection on the examples of all readers.

    Args:
        config: strategy, estimator and how ties are broken.
        source: [n, J] this reader's share of the training split, dealt out one by one in turn.
        target: [n, U] likewise, natural order.
        vocabulary: values that a source column or unit can take.
        unit_names: names of the units.
        group: the readers.
        progress: called with the tokens just done, each of this reader's twice.

    Returns:
        The selection, and the table that it rests on, where there is one.

    Raises:
        ValueError: `selection.fixed` does not fit the task's units.
        UserError: another reader gave up or died.
    """
    units = len(unit_names)
    started = time.perf_counter()
    fitted = config.strategy in FITTED_STRATEGIES
    if config.strategy == "learned" or (fitted and config.estimator == "chain"):
        return _ordered_by_a_decoder(
            config, source, target, vocabulary, unit_names, group, progress
        )
    if not fitted:
        order = choose_order(config.strategy, units, seed=config.seed, fixed=config.fixed)
        return Selection(config.strategy, order, tuple(unit_names)), None
    if config.estimator == "v_information":
        steps = _steps_as_tokens(progress, 2 * (source.size + target.size))
        bits = v_information(source, target, vocabulary, group, progress=steps)
        examples = int(add_up(np.array([len(source)]), group)[0])
        seconds = time.perf_counter() - started
        return _selected(config, bits, unit_names, examples, (), seconds), None
    table = fit_table(config, source, target, vocabulary, group, progress)
    return select(config, table, unit_names, time.perf_counter() - started), table


def _ordered_by_a_decoder(
    config: SelectionConfig,
    source: np.ndarray,
    target: np.ndarray,
    vocabulary: int,
    unit_names: Sequence[str],
    group: dist.ProcessGroup | None,
    progress: Progress | None,
) -> tuple[Selection, None]:
    """An order from a small decoder that learns many of them."""
    steps = _steps_as_tokens(progress, 2 * (source.size + target.size))
    learned = config.strategy == "learned"
    find = learn_order if learned else chain_order
    found = find(source, target, vocabulary, group, progress=steps)
    selection = Selection(
        strategy=config.strategy,
        order=found.order,
        unit_names=tuple(unit_names),
        estimator=None if learned else config.estimator,
        examples=int(add_up(np.array([len(source)]), group)[0]),
        seconds=found.seconds,
        flops=found.flops,
    )
    return selection, None


def _steps_as_tokens(progress: Progress | None, tokens: int) -> Callable[[int, int], None] | None:
    """Progress in steps done of all, told as tokens just done."""
    if progress is None:
        return None
    told = 0

    def tell(done: int, steps: int) -> None:
        nonlocal told
        now = tokens * done // steps
        progress(now - told)
        told = now

    return tell


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
