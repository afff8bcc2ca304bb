"""Greedy decoding of sets, each label once: what a model writes for every bias on the end.

The label that is written next does not depend on when a set ends, so one run tells what is written
under every bias: the labels in their order, and how far each was ahead of the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from pretrain.inference.decoding import DecodingRows, GreedyDecoder
from pretrain.inference.forward import Forward


@dataclass(frozen=True)
class WrittenSets:
    """Sets as a model writes them, of b texts and v labels.

    Attributes:
        labels: [b, units] int64 label numbers as they are written, -1 after the last.
        leads: [b, v] float64 nats by which the end may be raised before the label is not written:
            the smallest, over all steps up to its own, of the logit of the label that is written
            less that of the end. -inf of a label that is not written.
        chances: [b, v] float32 largest probability of each label, of all labels and the end, over
            the steps up to the model's own end.
    """

    labels: np.ndarray
    leads: np.ndarray
    chances: np.ndarray

    def head(self, count: int) -> WrittenSets:
        """The first ones."""
        return WrittenSets(self.labels[:count], self.leads[:count], self.chances[:count])


def joined(parts: list[WrittenSets]) -> WrittenSets:
    """One after the other."""
    return WrittenSets(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.leads for part in parts]),
        np.concatenate([part.chances for part in parts]),
    )


class SetDecoder(GreedyDecoder):
    """Writes sets label by label; every rank gets the result.

    Args:
        forward: runs the model.
        first: token id of label 0.
        labels: number of labels.
        end_id: token id of the end.
        slack: nats; how far the end can be lowered. A set is gone on with until the end leads by as
            many.
    """

    def __init__(
        self, forward: Forward, first: int, labels: int, end_id: int, slack: float
    ) -> None:
        super().__init__(forward)
        self.labels = labels
        self.first = first
        self.slack = slack
        self.ids = torch.tensor(
            [*range(first, first + labels), end_id], device=forward.topology.device
        )

    @torch.no_grad()
    def write(
        self, source: np.ndarray, lengths: np.ndarray, units: int, pad_id: int, counts: np.ndarray
    ) -> WrittenSets:
        """Sets that follow texts.

        Args:
            source: [b, S] token ids.
            lengths: [b] tokens of each.
            units: most labels to write, no more than there are.
            pad_id: stands where nothing is written yet.
            counts: [b] labels of each that are written in any case.
        """
        count, width = source.shape
        device = self.topology.device
        tokens = torch.full((count, width + units), pad_id, dtype=torch.int64)
        tokens[:, :width] = torch.from_numpy(source)
        tokens = tokens.to(device)
        begins, wanted = (torch.from_numpy(each).to(device) for each in (lengths, counts))
        written = torch.full((count, units), -1, dtype=torch.int64, device=device)
        leads = torch.full((count, self.labels), -torch.inf, dtype=torch.float64, device=device)
        chances = torch.zeros((count, self.labels), device=device)
        lead = torch.full((count,), torch.inf, dtype=torch.float64, device=device)
        rows = torch.arange(count, device=device)
        for unit in range(units):
            places = begins[rows] + unit
            found = torch.empty((len(rows), self.labels + 1), device=device)
            asked = DecodingRows(tokens[rows], places - 1)
            logits = self._asked_for(asked, self._of_labels, found)
            own = logits.softmax(1)[:, :-1] * (lead[rows] > 0)[:, None]
            chances[rows] = torch.maximum(chances[rows], own)
            left = logits[:, :-1].masked_fill(leads[rows] > -torch.inf, -torch.inf)
            best, chosen = left.max(dim=1)
            lead[rows] = torch.minimum(lead[rows], (best - logits[:, -1]).double())
            leads[rows, chosen] = lead[rows]
            written[rows, unit] = chosen
            tokens[rows, places] = self.first + chosen
            done = (lead[rows] <= -self.slack) & (unit + 1 >= wanted[rows])
            rows = self._unfinished(rows, done.long(), 1)
            if not len(rows):
                break
        return WrittenSets(written.cpu().numpy(), leads.cpu().numpy(), chances.cpu().numpy())

    def _of_labels(self, logits: Tensor, rows: DecodingRows) -> Tensor:
        """[b, v + 1] float32 logits of every label and of the end, from all tensor ranks."""
        own, tensor = self._last(logits, rows).float(), self.topology.tensor
        places = self.ids - tensor.rank * own.size(1)
        here = (places >= 0) & (places < own.size(1))
        found = own[:, places.clamp(0, own.size(1) - 1)].masked_fill(~here, 0.0)
        if tensor.size > 1:
            dist.all_reduce(found, group=tensor.group)
        return found
