"""The section `objective`: the loss that is minimized."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from pretrain import registry
from pretrain.config.base import Section, check_name


class ObjectiveConfig(Section):
    """The loss that is minimized."""

    name: str = "cross_entropy"
    """The loss: cross_entropy, z_loss (with coefficient x log^2 Z, arXiv 2204.02311),
    weighted_cross_entropy (each token with a weight of its own)."""
    coefficient: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = None
    """Weight of the term that the objective adds to the cross entropy; the objective's own default
    if not given."""

    @field_validator("name", mode="after")
    @classmethod
    def _registered(cls, name: str) -> str:
        return check_name("objective.name", name, tuple(registry.OBJECTIVES))
