"""What is asked of an objective: a sum over tokens, and what it is divided by.

A training step minimises (sum over all tokens of all ranks) / (count over all ranks). The model
calls the objective on its last stage, the loader hands it its fields, the planner asks for its
formulas, for which no torch is imported. Shapes: n tokens, h hidden, v vocabulary rows of this
rank, b sequences, s positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from pretrain import registry
from pretrain.config import Config
from pretrain.errors import ConfigError

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist
    from torch import Tensor


@dataclass(frozen=True)
class Piece:
    """A rank's part of the last stage, as the planner sees it.

    Attributes:
        tokens: of a micro-batch.
        hidden: width of the model.
        rows: of the vocabulary on this rank.
        width: bytes of a weight or an activation.
        device: `cpu` or `cuda`.
    """

    tokens: int
    hidden: int
    rows: int
    width: int
    device: str


class Objective:
    """What a training step minimises.

    Args:
        coefficient: weight of the term that it adds; its own default if None.

    Raises:
        ConfigError: it adds none.
    """

    fields: ClassVar[Mapping[str, torch.dtype]] = {}
    """What it needs of each batch beside tokens, labels and mask: tensors [b, s] by name."""
    coefficient: float | None = None
    """Weight of its term; None where it has none."""

    def __init__(self, coefficient: float | None = None) -> None:
        if coefficient is not None:
            if self.coefficient is None:
                raise ConfigError(
                    f"objective.coefficient {coefficient} is of no use: this objective adds no "
                    "term to the cross entropy; leave it out, or choose another objective.name"
                )
            self.coefficient = coefficient

    def loss_sum(
        self,
        hidden_nh: Tensor,
        weight_vh: Tensor,
        labels_n: Tensor,
        mask_n: Tensor,
        fields: Mapping[str, Tensor],
        group: dist.ProcessGroup | None,
    ) -> Tensor:
        """Sum of the loss over tokens, an fp32 scalar.

        Args:
            hidden_nh: [n, h], the same on every rank of `group`; its gradient is to be this rank's
                part only.
            weight_vh: [v, h], this rank's rows of the output projection.
            labels_n: [n] ids of the whole vocabulary.
            mask_n: [n] 1 where the label counts.
            fields: its own, each [n].
            group: tensor-parallel group; None for an undivided vocabulary.
        """
        raise NotImplementedError

    def count(self, mask: Tensor, fields: Mapping[str, Tensor]) -> float:
        """What the sum over these tokens [b, s] is divided by, once it is added up over all ranks.

        Raises:
            UserError: a field holds what it must not.
        """
        return float(mask.double().sum())

    def head(self, group: dist.ProcessGroup, sequence_parallel: bool) -> torch.nn.Module:
        """The module at the end of the last stage, called as
        :class:`pretrain.objectives.head.LossHead` is.

        One with weights of its own overrides this. They are the same on all tensor-parallel ranks,
        and each of these ranks has to compute their whole gradient.
        """
        from pretrain.objectives.head import LossHead

        return LossHead(self.loss_sum, group, sequence_parallel)

    def flops_per_token(self, hidden: int, vocabulary: int) -> int:
        """FLOPs that its forward pass adds to those of the model per position, matrix products
        only, as :data:`pretrain.model.flops.FORMULA` counts them."""
        return 0

    def kept_bytes(self, piece: Piece) -> int:
        """Bytes that its forward pass keeps for the backward pass."""
        raise NotImplementedError

    def working_bytes(self, piece: Piece) -> int:
        """Bytes that live for a moment beside them."""
        raise NotImplementedError


def objective_of(config: Config) -> Objective:
    """The objective that `objective` names.

    Raises:
        ConfigError: `objective.coefficient` is given to one that has none.
    """
    settings = config.objective
    made = registry.load(registry.OBJECTIVES[settings.name])(settings.coefficient)
    return cast(Objective, made)
