"""Cross entropy of a set: at each place, against a distribution over the labels that remain.

A set of labels is written in some order, which decides what stands before each place. What a place
is compared with is not the label that this order has next, but all labels of the set that are not
written yet: with R the labels after place i and a(l) > 0 the weight of each,

    q(l) = a(l) / sum over r in R of a(r),    and q(<end>) = 1 where R is empty,

and per place that counts, in nats, the loss is - sum over l of q(l) log softmax(z)(l). What stands
before is as the order has it; `objective.weighting` says what a(l) is:

- uniform: 1;
- pmi (ours): the sum over the words of the text of the pointwise mutual information of each with l,
  in bits, from the selector's sharded table, and no less than :data:`LEAST`.

The batch says the weights (:data:`FIELD`), 0 of what ends a set.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from pretrain.config.objective import Weighting
from pretrain.errors import ConfigError
from pretrain.objectives.base import Piece, check_weights
from pretrain.objectives.cross_entropy import linear_cross_entropy
from pretrain.objectives.head import LossHead, Targets, flat
from pretrain.objectives.plain import CrossEntropy
from pretrain.objectives.second_head import WORKING, following, tokens_ahead

FIELD = "set_weight"
"""Field of a batch: weight [b, s] of each label in what remains, 0 of the end of a set."""
LEAST = 0.01
"""Bits of a label of which the table says nothing, so that every label that remains has a share."""


class SoftSet(CrossEntropy):
    """Per place that counts: nats of the labels that remain.

    `window` is the most labels of a set, the end among them.
    """

    fields: Mapping[str, torch.dtype] = {FIELD: torch.float32}
    window: int = 32
    weighting: Weighting = "uniform"

    def __init__(
        self,
        coefficient: float | None = None,
        window: int | None = None,
        weighting: Weighting | None = None,
    ) -> None:
        super().__init__(coefficient, window, weighting)
        if self.weighting == "information":
            raise ConfigError(
                "objective.weighting information: soft_set weighs labels by what the words of "
                "their text tell of them; use uniform or pmi"
            )
        self.needs_table = self.weighting == "pmi"

    def count(self, mask: Tensor, fields: Mapping[str, Tensor]) -> float:
        """The places that count.

        Raises:
            UserError: a weight is negative or not finite.
        """
        check_weights(FIELD, fields[FIELD], "the weight of a label is finite and not negative")
        return super().count(mask, fields)

    def distribution(self, targets: Targets) -> tuple[Tensor, Tensor]:
        """Token ids [b, s, w] int64 of what remains, and the share of each [b, s, w] float32; 0
        everywhere at a place that does not count."""
        ids, counts = tokens_ahead(targets, self.window)
        weights = counts * following(targets.fields[FIELD], self.window)
        # Without a weight, nothing but the end is left.
        weights = torch.where(weights.sum(2, keepdim=True) > 0, weights, counts.float())
        total = weights.sum(2, keepdim=True)
        return ids, torch.where(total > 0, weights / total, 0.0)

    def head(self, group: dist.ProcessGroup, sequence_parallel: bool, like: Tensor) -> SetHead:
        """The module at the end of the last stage; it has no weights."""
        return SetHead(self, group, sequence_parallel)

    def working_bytes(self, piece: Piece) -> int:
        """A block of logits, and what they are compared with."""
        return super().working_bytes(piece) + WORKING * piece.tokens * self.window


class SetHead(LossHead):
    """:class:`SoftSet` as a module, called as :class:`pretrain.objectives.head.LossHead` is."""

    def __init__(
        self, objective: SoftSet, group: dist.ProcessGroup, sequence_parallel: bool
    ) -> None:
        super().__init__(objective.loss_sum, group, sequence_parallel)
        self.of_sets = objective

    def forward(self, hidden_sbh: Tensor, weight: Tensor, *, targets: Targets) -> Tensor:
        """hidden [s, b, h] ([s / tensor, b, h] under sequence parallelism), weight [v, h] ->
        summed loss, fp32 scalar."""
        with torch.no_grad():
            ids_nw, shares_nw = map(flat, self.of_sets.distribution(targets))
        hidden_nh, mask_n = self.whole(hidden_sbh), flat(targets.mask)
        return linear_cross_entropy(hidden_nh, weight, ids_nw, mask_n, self.group, None, shares_nw)
