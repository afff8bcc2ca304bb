"""A second unembedding over the last hidden state, which predicts of the tokens ahead what an
objective asks for, beside the next-token head and its cross entropy.

The second head is compared with a distribution over the vocabulary that is not 0 for at most w
tokens of a place, so the two matrices [tokens, vocabulary] never exist. Its weight is split by rows
of the vocabulary as the output projection is. Models are scored by the next-token head alone.

Shapes: b sequences, s positions, n = b s tokens, w tokens ahead, h hidden, v vocabulary rows of
this rank.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import pad

from pretrain.objectives.base import Piece
from pretrain.objectives.cross_entropy import linear_cross_entropy
from pretrain.objectives.head import LossHead, Targets, flat
from pretrain.objectives.plain import CrossEntropy

WORKING = 32
"""Bytes of a token ahead while the targets of a micro-batch are made, at most: ids and their copy,
weights, sums and what is compared."""


class TokensAhead(CrossEntropy):
    """Per label that counts: nats of the next token + coefficient x nats of the second head.

    The nats of the second head are the cross entropy of :meth:`distribution` with the softmax of
    its logits; a place where that is 0 everywhere adds nothing.
    """

    coefficient: float
    window: int

    @abstractmethod
    def distribution(self, targets: Targets) -> tuple[Tensor, Tensor]:
        """Token ids [b, s, w] int64 and the share of each [b, s, w] float32. The shares of a place
        sum to 1, or are 0 where nothing ahead of it counts. No id with a share is there twice."""

    def head(self, group: dist.ProcessGroup, sequence_parallel: bool, like: Tensor) -> SecondHead:
        """Both heads."""
        return SecondHead(self, group, sequence_parallel, like)

    def matrices(self, hidden: int, rows: int) -> tuple[int, ...]:
        """The second unembedding."""
        return (hidden * rows,)

    def flops_per_token(self, hidden: int, vocabulary: int) -> int:
        """One more output projection: 2 h v."""
        return 2 * hidden * vocabulary

    def kept_bytes(self, piece: Piece) -> int:
        """The gradients of both heads."""
        return 2 * super().kept_bytes(piece)

    def working_bytes(self, piece: Piece) -> int:
        """A block of logits of one head, and the targets of the other."""
        return super().working_bytes(piece) + WORKING * piece.tokens * self.window


class SecondHead(LossHead):
    """Both heads of :class:`TokensAhead`, called as :class:`pretrain.objectives.head.LossHead` is.

    Attributes:
        weight: [v, h], this rank's rows of the second unembedding.
    """

    def __init__(
        self,
        objective: TokensAhead,
        group: dist.ProcessGroup,
        sequence_parallel: bool,
        like: Tensor,
    ) -> None:
        from megatron.core.tensor_parallel import set_tensor_model_parallel_attributes

        super().__init__(objective.loss_sum, group, sequence_parallel)
        self.ahead = objective
        self.weight = Parameter(torch.empty_like(like.detach()))
        set_tensor_model_parallel_attributes(self.weight, True, 0, 1)

    def forward(self, hidden_sbh: Tensor, weight: Tensor, *, targets: Targets) -> Tensor:
        """hidden [s, b, h] ([s / tensor, b, h] under sequence parallelism), weight [v, h] of the
        next-token head -> [2] fp32: summed nats of the next token, and the summed term."""
        hidden_nh = self.whole(hidden_sbh)
        mask_n = flat(targets.mask)
        nats = linear_cross_entropy(hidden_nh, weight, flat(targets.labels), mask_n, self.group)
        with torch.no_grad():
            ids_nw, shares_nw = map(flat, self.ahead.distribution(targets))
            counts_n = mask_n * (shares_nw.amax(1) > 0)
        ahead = linear_cross_entropy(
            hidden_nh, self.weight, ids_nw, counts_n, self.group, None, shares_nw
        )
        return torch.stack((nats, self.ahead.coefficient * ahead))


def tokens_ahead(targets: Targets, window: int) -> tuple[Tensor, Tensor]:
    """The label of each place and the window - 1 labels after it.

    A place's labels end with its sequence and its document: the label of an input belongs to the
    document of that input, so the `<end>` after a document is its last label.

    Returns:
        ids: [b, s, w] int64; the token at distance k + 1 stands at k.
        counts: [b, s, w] bool: whether it is of the same document, it counts in the loss, and so
            does the place's own label.
    """
    own = targets.mask > 0
    counts = following(own, window) & own.unsqueeze(2)
    if targets.positions is not None:
        document = (targets.positions == 0).cumsum(1)
        counts &= following(document, window) == document.unsqueeze(2)
    return following(targets.labels, window), counts


def following(values: Tensor, window: int) -> Tensor:
    """[b, s] -> [b, s, w], the value at each place and the w - 1 after it; 0 past the end."""
    return pad(values, (0, window - 1)).unfold(1, window, 1)


def first_of(ids: Tensor) -> Tensor:
    """[..., w] bool, whether an id stands nowhere before in its row."""
    first = torch.ones_like(ids, dtype=torch.bool)
    for place in range(ids.size(-1) - 1):
        first[..., place + 1 :] &= ids[..., place + 1 :] != ids[..., place : place + 1]
    return first


def gathered(ids: Tensor, weights: Tensor) -> Tensor:
    """The weights [..., w] of equal ids [..., w] added up at the first of them, 0 at the others; in
    the order of their places, so that a sum is the same whenever it is made."""
    total = torch.zeros_like(weights)
    for place in range(ids.size(-1)):
        total += (ids == ids[..., place : place + 1]) * weights[..., place : place + 1]
    return total * first_of(ids)
