"""Token order prediction: cross entropy of the next token, and a second head that ranks the
vocabulary by how soon each token occurs next.

Zuhri et al., Predicting the Order of Upcoming Tokens Improves Language Modeling (arXiv 2508.19228),
section 4.1, equations 9 and 10; the loss is ListNet's (Cao et al., 2007): of the tokens v that
occur among the next w, each first at distance d(v) = 1, 2, ..., the target score is w - d(v), of
all others minus infinity. Per label that counts, in nats,

    next-token cross entropy + coefficient x - sum over v of softmax(w - d)(v) log softmax(z)(v)

with z the logits of the second head. The softmax of the scores is exp(-d(v)) / sum over u of
exp(-d(u)), in which w has cancelled: the next token has a share of at least 0.63, the tenth one
of 0.00013 at most, and from d = 105 on shares are 0 in fp32, so a longer window changes nothing.

The paper's coefficient is 1. Its window is as long as the sequence and goes on behind it; here the
sequence and the document end it. Its algorithm 1 leaves out the token that stands at the place
itself where that occurs again; its text does not, and neither does this.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pretrain.objectives.head import Targets
from pretrain.objectives.second_head import TokensAhead, first_of, tokens_ahead


class TokenOrder(TokensAhead):
    """Per label that counts: nats of the next token + coefficient x nats of ListNet."""

    coefficient = 1.0
    window = 16
    terms = ("next_token", "token_order")

    def distribution(self, targets: Targets) -> tuple[Tensor, Tensor]:
        """exp(-distance) of the first occurrence of each token, as shares."""
        ids, counts = tokens_ahead(targets, self.window)
        ids = torch.where(counts, ids, -1)
        distances = torch.arange(self.window, dtype=torch.float32, device=ids.device)
        weights = first_of(ids) * counts * torch.exp(-distances)
        # Where anything counts, the next token does, whose weight is 1.
        return ids, weights / weights.sum(2, keepdim=True).clamp(min=1.0)
