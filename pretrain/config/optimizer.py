"""The section `optimizer`: the update and its learning-rate schedule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pretrain import registry
from pretrain.config.base import Fraction, NonNegativeInt, PositiveInt, Section, check_name


class OptimizerConfig(Section):
    """The optimizer and its learning-rate schedule."""

    name: str = "adamw"
    """The update: adamw, or lion (sign of the interpolated momentum, arXiv 2302.06675), whose rate
    should be 3 to 10 times lower and weight decay as many times higher."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-3
    """Peak rate."""
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    """After warm-up: cosine to the minimum; wsd (stay, then fall linearly over decay_steps);
    constant."""
    warmup_steps: NonNegativeInt = 100
    """Steps of linear warm-up from 0."""
    decay_steps: PositiveInt | None = None
    """Steps of the final decay of schedule wsd; a tenth of training.steps if not given."""
    minimum_fraction: Fraction = 0.05
    """Rate at the end, as a fraction of learning_rate."""
    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Decay of the first moment."""
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    """Decay of the second moment."""
    epsilon: Annotated[float, Field(gt=0.0)] = 1e-8
    """Added to the denominator."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.1
    """Decoupled weight decay of matrices; biases and norms have none."""
    clip_norm: Annotated[float, Field(ge=0.0)] = 1.0
    """Largest global gradient norm; 0 switches clipping off."""

    @field_validator("name", mode="after")
    @classmethod
    def _registered(cls, name: str) -> str:
        return check_name("optimizer.name", name, tuple(registry.OPTIMIZERS))
