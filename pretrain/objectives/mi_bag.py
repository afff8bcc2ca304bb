"""Cross entropy of the next token, and a second head that predicts the bag of the tokens ahead,
each weighted by what is known of it beforehand.

Ours. At a place i with the tokens x after it, the second head is compared with

    q(v) = sum over k = 1 ... w with x(i + k) = v of a(i, k) / sum over k of a(i, k)

and per label that counts, in nats, the loss is

    next-token cross entropy + coefficient x - sum over v of q(v) log softmax(z)(v)

with z the logits of the second head. `objective.weighting` says what a(i, k) is:

- uniform: 1;
- information: -log2 p(x(i + k)), the self-information of the token in bits, p its share of the
  counted pairs (term frequency x inverse collection frequency: rare tokens weigh more);
- pmi: the sum over the last w tokens c up to place i, of the same document, of the pointwise mutual
  information of c with x(i + k) in bits, from the selector's sharded table (Church and Hanks, 1990;
  minimum count, smoothing and positive values as `selection` has them): what stands before tells of
  it.

Nothing is inserted into the text, so the likelihood of a text stays that of the next-token head.
Only labels of the same document that count are in the bag; a place whose weights are all 0 adds
nothing to the second term.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pretrain.config.objective import Weighting
from pretrain.objectives.base import check_weights
from pretrain.objectives.head import Targets
from pretrain.objectives.second_head import TokensAhead, following, gathered, tokens_ahead

INFORMATION, PMI = "information", "pmi"
"""Fields of a batch: bits [b, s] of each label, and bits [b, s, w] of the w labels from a place on
with what stands up to it."""


class WeightedBag(TokensAhead):
    """Per label that counts: nats of the next token + coefficient x nats of the bag."""

    coefficient = 1.0
    window = 16
    weighting: Weighting = "uniform"
    terms = ("next_token", "bag")

    def __init__(
        self,
        coefficient: float | None = None,
        window: int | None = None,
        weighting: Weighting | None = None,
    ) -> None:
        super().__init__(coefficient, window, weighting)
        if self.weighting != "uniform":
            self.fields = {self.weighting: torch.float32}
            self.needs_table = True
        if self.weighting == PMI:
            self.per_token = {PMI: self.window}

    def count(self, mask: Tensor, fields: Mapping[str, Tensor]) -> float:
        """The labels that count.

        Raises:
            UserError: a weight is negative or not finite.
        """
        for name in self.fields:
            rule = "the weight of a token in a bag is finite and not negative"
            check_weights(name, fields[name], f"{rule}: set selection.positive true")
        return super().count(mask, fields)

    def distribution(self, targets: Targets) -> tuple[Tensor, Tensor]:
        """The weights of each token ahead, as shares."""
        ids, counts = tokens_ahead(targets, self.window)
        weights = counts.float()
        if self.weighting == INFORMATION:
            weights *= following(targets.fields[INFORMATION], self.window)
        elif self.weighting == PMI:
            weights *= targets.fields[PMI]
        weights = gathered(ids, weights)
        total = weights.sum(2, keepdim=True)
        return ids, torch.where(total > 0, weights / total, 0.0)
