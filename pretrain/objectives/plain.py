"""Cross entropy as an objective, and what others are variants of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pretrain.objectives.base import Objective, Piece
from pretrain.objectives.blocks import block_tokens

if TYPE_CHECKING:
    import torch.distributed as dist
    from torch import Tensor


class CrossEntropy(Objective):
    """Cross entropy in nats of the labels that count, per label.

    A variant of it overrides :meth:`term` (something to add to the loss of a token) or
    :meth:`weights` (how much a token counts).
    """

    term: Callable[[Tensor, Tensor], Tensor] | None = None

    def weights(self, mask: Tensor, fields: Mapping[str, Tensor]) -> Tensor:
        """How much each token counts, float32 of the mask's shape."""
        return mask

    def loss_sum(
        self,
        hidden_nh: Tensor,
        weight_vh: Tensor,
        labels_n: Tensor,
        mask_n: Tensor,
        fields: Mapping[str, Tensor],
        group: dist.ProcessGroup | None,
    ) -> Tensor:
        """See :meth:`pretrain.objectives.base.Objective.loss_sum`."""
        from pretrain.objectives.cross_entropy import linear_cross_entropy

        weights = self.weights(mask_n, fields)
        return linear_cross_entropy(hidden_nh, weight_vh, labels_n, weights, group, self.term)

    def kept_bytes(self, piece: Piece) -> int:
        """Gradients, which are there after the forward pass: n h of the hidden states, h v of the
        weight."""
        return piece.width * piece.hidden * (piece.tokens + piece.rows)

    def working_bytes(self, piece: Piece) -> int:
        """A block of logits in fp32, beside it in the model's precision, and the fp32 gradient of
        the weight: beside its copy in the model's precision, or with the next block's part."""
        block = min(piece.tokens, block_tokens(piece.device, piece.rows))
        reduced = piece.width < 4
        weight = 4 * piece.rows * piece.hidden if reduced or block < piece.tokens else 0
        return block * piece.rows * (4 + (piece.width if reduced else 0)) + weight
