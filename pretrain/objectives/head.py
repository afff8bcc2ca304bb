"""The end of the last stage: an objective at work on the hidden states.

Shapes: b sequences, s positions, h hidden, v vocabulary rows of this rank,
n = b s tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """What the last stage compares with, each [b, s].

    Attributes:
        labels: int64, the token after each input.
        mask: float32, 1 where the label counts.
        fields: the objective's own, by name.
        positions: int64 place of each input in its document; None where each sequence is one.
    """

    labels: Tensor
    mask: Tensor
    fields: Mapping[str, Tensor] = field(default_factory=dict)
    positions: Tensor | None = None


class LossHead(torch.nn.Module):
    """An objective's sum as a module without parameters, so that hooks can be attached to it.

    The weight belongs to the output layer or, tied, to the embedding.

    Args:
        loss_sum: see :meth:`pretrain.objectives.base.Objective.loss_sum`.
    """

    def __init__(
        self, loss_sum: Callable[..., Tensor], group: dist.ProcessGroup, sequence_parallel: bool
    ) -> None:
        super().__init__()
        self.loss_sum = loss_sum
        self.group = group
        self.sequence_parallel = sequence_parallel

    def forward(self, hidden_sbh: Tensor, weight: Tensor, *, targets: Targets) -> Tensor:
        """hidden [s, b, h] ([s / tensor, b, h] under sequence parallelism), weight [v, h] ->
        summed loss, fp32 scalar.
        """
        return self.loss_sum(
            self.whole(hidden_sbh),
            weight,
            flat(targets.labels),
            flat(targets.mask),
            {name: flat(values) for name, values in targets.fields.items()},
            self.group,
        )

    def whole(self, hidden_sbh: Tensor) -> Tensor:
        """hidden [s, b, h] ([s / tensor, b, h] under sequence parallelism) -> [n, h], the same on
        all tensor-parallel ranks; the gradients that they have of it are summed."""
        from megatron.core.tensor_parallel import (
            copy_to_tensor_model_parallel_region,
            gather_from_sequence_parallel_region,
        )

        if self.sequence_parallel:
            hidden_sbh = gather_from_sequence_parallel_region(hidden_sbh, group=self.group)
        else:
            hidden_sbh = copy_to_tensor_model_parallel_region(hidden_sbh, group=self.group)
        return hidden_sbh.reshape(-1, hidden_sbh.size(-1))


def flat(values: Tensor) -> Tensor:
    """[b, s, ...] -> [n, ...], in the order of hidden states [s, b, h]."""
    return values.transpose(0, 1).flatten(0, 1)
