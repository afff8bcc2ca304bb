"""The section `objective`: the loss that is minimized."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pretrain import registry
from pretrain.config.base import Section, check_name

Weighting = Literal["uniform", "information", "pmi"]


class ObjectiveConfig(Section):
    """The loss that is minimized."""

    name: str = "cross_entropy"
    """The loss: cross_entropy, z_loss (with coefficient x log^2 Z, arXiv 2204.02311),
    weighted_cross_entropy (each token with a weight of its own), top (with coefficient x the loss
    of a second head that ranks tokens by how soon they occur next, arXiv 2508.19228), mi_bag (with
    coefficient x the loss of a second head that predicts the bag of the next tokens)."""
    coefficient: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = None
    """Weight of the term that the objective adds to the cross entropy; the objective's own default
    if not given."""
    window: Annotated[int, Field(ge=1, le=256)] | None = None
    """Tokens ahead that the second head of top and mi_bag predicts; 16 if not given."""
    weighting: Weighting | None = None
    """Weight of each token in the bag of mi_bag: uniform, information (-log2 of its frequency in
    the training text), pmi (its mutual information with the objective.window tokens before, by the
    selector's table); the latter two for texts. uniform if not given."""

    @field_validator("name", mode="after")
    @classmethod
    def _registered(cls, name: str) -> str:
        return check_name("objective.name", name, tuple(registry.OBJECTIVES))
