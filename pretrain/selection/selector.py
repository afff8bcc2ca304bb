"""What was selected, and the one object that selects: handed out by a schedule for a step, applied
by batches, and used by whoever scores a model.

Only the ranks that read data take part in a fit; the others are told the result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from pretrain import registry
from pretrain.files import json_text
from pretrain.selection.orders.strategies import Order

if TYPE_CHECKING:
    import torch.distributed as dist

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
        bits: of each unit in natural order, its MI, or what an estimator of orders says they are;
            None where there are none.
        examples: examples counted.
        rows: rows of the table over all ranks.
        rows_per_rank: rows that each rank holds.
        seconds: wall time of the fit.
        flops: model FLOPs of the fit over all ranks; None where it counted.
        evidence: fingerprint of the table and settings by which each example is scored; None where
            all have one order.
    """

    strategy: str
    order: Order = ()
    unit_names: tuple[str, ...] = ()
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
    def fingerprint(self) -> str:
        """Hash of everything that decides the order; the same for any number of ranks."""
        bits = None if self.bits is None else [value.hex() for value in self.bits]
        what = [self.strategy, self.order, self.estimator, self.correction, bits, self.examples]
        what += [self.evidence] if self.evidence else []
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """JSON object with every attribute and the fingerprint."""
        return json_text({**asdict(self), "fingerprint": self.fingerprint}, indent=2) + "\n"

    def table(self) -> str:
        """The scores and the order they imply, for people; of many units, the first and last."""
        lines = []
        if self.estimator is not None:
            lines.append(
                f"{_measured(self.estimator)}, estimator {self.estimator}, "
                f"{'' if self.correction is None else f'correction {self.correction}, '}"
                f"{self.examples:,} examples"
            )
        if self.bits is not None:
            lines += self._rows(self.bits)
        chosen = self.order or self.estimator  # without either there is nothing to be ordered
        whose = "the criterion" if self.strategy == "any_order" else self.strategy
        lines.append(
            f"order of {whose}: {self._order_words()}" if chosen else f"strategy {self.strategy}"
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


def _measured(estimator: str) -> str:
    """What an estimator's bits are, for people."""
    if estimator not in registry.ORDER_ESTIMATORS:
        return "MI(source; unit)"
    return str(registry.load(registry.ORDER_ESTIMATORS[estimator]).measured)


class Selector(Protocol):
    """Selects the targets of examples. How it is asked, and whether it can take back what it did,
    is between a task's batches and its evaluator."""

    @property
    def selection(self) -> Selection:
        """What was selected, on what evidence."""
        ...


def share(selection: Selection | None, group: dist.ProcessGroup) -> Selection:
    """Hand a reader's selection (rank 0 of `group`) to the other ranks of its model copy."""
    if group.size() == 1:
        assert selection is not None
        return selection
    import torch
    import torch.distributed as dist

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
