"""What is asked of an objective: a sum over tokens, and what it is divided by.

A training step minimises (sum over all tokens of all ranks) / (count over all ranks). The model
calls the objective on its last stage, the loader hands it its fields, the planner asks for its
formulas, for which no torch is imported. Shapes: n tokens, h hidden, v vocabulary rows of this
rank, b sequences, s positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pretrain import registry
from pretrain.config import Config
from pretrain.config.objective import Weighting
from pretrain.errors import ConfigError, UserError

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
        window: tokens ahead that it looks at; its own default if None.
        weighting: how it weighs them; its own default if None.

    Raises:
        ConfigError: it has no such thing.
    """

    fields: Mapping[str, torch.dtype] = {}
    """What it needs of each batch beside tokens, labels and mask: tensors [b, s] by name."""
    per_token: Mapping[str, int] = {}
    """Numbers of each token in those fields that have several: tensors [b, s, numbers]."""
    terms: tuple[str, ...] = ()
    """Names of the summands of its loss, where records are to have each: its head returns them one
    by one, [terms], and their sum is minimised."""
    needs_table: bool = False
    """Whether those fields come from the selector's table, whatever the strategy."""
    coefficient: float | None = None
    """Weight of its term; None where it has none."""
    window: int | None = None
    """Tokens ahead; None where it looks at the next one only."""
    weighting: Weighting | None = None
    """How it weighs the tokens ahead; None where it does not."""

    def __init__(
        self,
        coefficient: float | None = None,
        window: int | None = None,
        weighting: Weighting | None = None,
    ) -> None:
        if coefficient is not None:
            self._has("coefficient", coefficient, "adds no term to the cross entropy")
            self.coefficient = coefficient
        if window is not None:
            self._has("window", window, "looks at the next token only")
            self.window = window
        if weighting is not None:
            self._has("weighting", weighting, "weighs no tokens ahead")
            self.weighting = weighting

    def _has(self, setting: str, value: object, otherwise: str) -> None:
        if getattr(self, setting) is None:
            raise ConfigError(
                f"objective.{setting} {value} is of no use: this objective {otherwise}; leave it "
                "out, or choose another objective.name"
            )

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

    def head(
        self, group: dist.ProcessGroup, sequence_parallel: bool, like: Tensor
    ) -> torch.nn.Module:
        """The module at the end of the last stage, called as
        :class:`pretrain.objectives.head.LossHead` is.

        One with weights of its own overrides this. They are split by rows of the vocabulary, as
        :class:`pretrain.objectives.second_head.SecondHead` has them, or are the same on all
        tensor-parallel ranks, each of which then has to compute their whole gradient.

        Args:
            like: this rank's rows of the output projection, [v, h], the pattern of another one.
        """
        from pretrain.objectives.head import LossHead

        return LossHead(self.loss_sum, group, sequence_parallel)

    def matrices(self, hidden: int, rows: int) -> tuple[int, ...]:
        """Elements of each matrix of its own on a rank with `rows` of the vocabulary."""
        return ()

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


def check_weights(name: str, values: Tensor, rule: str) -> None:
    """Refuse weights that are negative or not finite.

    Args:
        name: of the field.
        values: of any shape.
        rule: what they are to be, in words, and the way out.

    Raises:
        UserError: some are.
    """
    wrong = values[~(values.isfinite() & (values >= 0.0))]
    if len(wrong):
        raise UserError(f"the field {name} of a batch holds {float(wrong[0])}; {rule}")


def objective_of(config: Config) -> Objective:
    """The objective that `objective` names.

    Raises:
        ConfigError: a setting is given to one that has no use for it.
    """
    settings = config.objective
    made = registry.load(registry.OBJECTIVES[settings.name])(
        settings.coefficient, settings.window, settings.weighting
    )
    return cast(Objective, made)
