"""Cross entropy in which every token has a weight of its own.

The sum over tokens of weight x nats is divided by the sum of the weights over all ranks, as
`torch.nn.functional.cross_entropy` does with its `weight`: it is a weighted mean, so that a loss
stays a number of nats per token, and twice the weights are the same objective.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pretrain.objectives.base import Piece, check_weights
from pretrain.objectives.plain import CrossEntropy

FIELD = "weight"


class WeightedCrossEntropy(CrossEntropy):
    """Weighted mean of the nats of the labels that count; the batch's field `weight` [b, s] float32
    says how much each does."""

    fields: Mapping[str, torch.dtype] = {FIELD: torch.float32}

    def weights(self, mask: Tensor, fields: Mapping[str, Tensor]) -> Tensor:
        """mask x weight."""
        return mask * fields[FIELD]

    def count(self, mask: Tensor, fields: Mapping[str, Tensor]) -> float:
        """Sum of the weights of the labels that count.

        Raises:
            UserError: a weight is negative or not finite.
        """
        check_weights(FIELD, fields[FIELD], "the weight of a token is finite and not negative")
        return float(self.weights(mask, fields).sum(dtype=torch.float64))

    def kept_bytes(self, piece: Piece) -> int:
        """The weights beside what cross entropy keeps."""
        return super().kept_bytes(piece) + 4 * piece.tokens
