"""What a model is told of orders: which unit each token is, and which is asked for after it.

A token's place in the sequence says nothing of which unit it is where each example has an order of
its own. Two embeddings say it, of the place in natural order of the token itself, and of the one
that is asked for after it (sigma-GPT, arXiv 2404.09562, section 2). Letters: b sequences, s
positions, h hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


class OrderEmbedding(torch.nn.Module):
    """Embeddings of the place of each token, and of the one that is asked for after it.

    Args:
        length: positions of the model; places in natural order are 0 to `length`.
        hidden: width of the model.
    """

    def __init__(self, length: int, hidden: int) -> None:
        super().__init__()
        self.present = torch.nn.Embedding(length + 1, hidden)
        self.asked = torch.nn.Embedding(length + 1, hidden)

    def forward(self, asked_bs: Tensor) -> Tensor:
        """[b, s] int64 places of the labels -> [b, s, h]. Each input but the first is the label of
        the input before it."""
        present_bs = pad(asked_bs[:, :-1], (1, 0))
        embedded: Tensor = self.present(present_bs) + self.asked(asked_bs)
        return embedded
