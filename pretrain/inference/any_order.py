"""Greedy decoding of a model that is told which unit it is asked for: in any order, or the surest
unit next, on any layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from pretrain.inference.decoding import DecodingRows, GreedyDecoder


@dataclass(frozen=True)
class Written:
    """Targets as a model wrote them.

    Attributes:
        tokens: [b, units] int64, as they were written.
        orders: [b, units] int64, which unit each of them is.
    """

    tokens: np.ndarray
    orders: np.ndarray

    @property
    def natural(self) -> np.ndarray:
        """[b, units] tokens in natural order."""
        natural = np.empty_like(self.tokens)
        np.put_along_axis(natural, self.orders, self.tokens, axis=1)
        return natural

    @classmethod
    def joined(cls, parts: Sequence[Written]) -> Written:
        """One after the other."""
        return cls(
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([part.orders for part in parts]),
        )

    def head(self, count: int) -> Written:
        """The first ones."""
        return Written(self.tokens[:count], self.orders[:count])


class AnyOrderDecoder(GreedyDecoder):
    """Generates targets unit by unit; every rank gets the result."""

    @torch.no_grad()
    def write(
        self, source: np.ndarray, units: int, pad_id: int, order: Sequence[int] | None
    ) -> Written:
        """[b, S] token ids -> the tokens that the model prefers, unit by unit.

        Args:
            source: what the model goes on from.
            units: of a target.
            pad_id: stands where nothing is written yet.
            order: in which units are asked for; None for the one next, of those that are left, of
                whose token the model is surest, which takes units (units + 1) / 2 forward passes.
        """
        count, width = source.shape
        device = self.topology.device
        tokens = torch.full((count, width + units), pad_id, dtype=torch.int64)
        tokens[:, :width] = torch.from_numpy(source)
        tokens = tokens.to(device)
        asked = torch.arange(1, width + units + 1, device=device).repeat(count, 1)
        given = range(units) if order is None else order
        # What is left, in the columns from the number of units that are written on.
        orders = torch.tensor([*given], device=device).repeat(count, 1)
        for unit in range(units):
            last = width + unit - 1
            left = range(unit, units) if order is None else [unit]
            answers = []
            for column in left:
                asked[:, last] = width + orders[:, column]
                rows = DecodingRows(tokens, torch.full((count,), last, device=device), None, asked)
                found = torch.empty((count, 2), dtype=torch.float64, device=device)
                answers.append(self._asked_for(rows, self._surest, found))
            tokens[:, width + unit] = self._take_surest(torch.stack(answers, dim=1), orders, unit)
            asked[:, last] = width + orders[:, unit]
        return Written(tokens[:, width:].cpu().numpy(), orders.cpu().numpy())

    def _take_surest(self, answers: Tensor, orders: Tensor, unit: int) -> Tensor:
        """The tokens [b] of the surest of the units that are left, [b, left, 2] a token and its
        log-probability each; moves that unit to the front of what is left, in place."""
        numbers = torch.arange(len(orders), device=orders.device)
        best = answers[:, :, 1].argmax(dim=1)
        chosen = orders[numbers, unit + best]
        for column in range(orders.size(1) - 1, unit, -1):
            moved = column - unit <= best
            orders[moved, column] = orders[moved, column - 1]
        orders[:, unit] = chosen
        return answers[numbers, best, 0].to(torch.int64)

    def _surest(self, logits: Tensor, rows: DecodingRows) -> Tensor:
        """[b, 2] float64 of each row: the likeliest token, and its log-probability."""
        token = self._chosen(logits, rows)
        own, tensor = self._last(logits, rows).double(), self.topology.tensor
        largest = own.amax(dim=1)
        if tensor.size > 1:
            dist.all_reduce(largest, dist.ReduceOp.MAX, group=tensor.group)
        total = (own - largest[:, None]).exp().sum(dim=1)
        if tensor.size > 1:
            dist.all_reduce(total, group=tensor.group)
        # The likeliest token has the largest logit.
        return torch.stack([token.double(), -total.log()], dim=1)
