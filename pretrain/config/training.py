"""The section `training`: budget and numerics."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pretrain.config.base import NonNegativeInt, PositiveInt, Section


class TrainingConfig(Section):
    """Budget and numerics."""

    steps: PositiveInt = 1000
    """Optimizer steps."""
    global_batch: PositiveInt = 128
    """Sequences per step, over all data-parallel ranks."""
    micro_batch: PositiveInt | None = None
    """Sequences per forward pass and rank; the whole share of the rank if not given."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Number format of weights and activations; bf16 and fp16 keep fp32 master weights. fp16 scales
    the loss dynamically and needs a GPU."""
    recompute: Literal["none", "selective", "full"] = "none"
    """Activations that the backward pass computes again instead of keeping them: selective, the
    MLP's, the largest; full, each layer's but its input."""
    compile: bool = False
    """Compile each transformer layer with torch.compile."""
    seed: NonNegativeInt = 0
    """Seed of initial weights, batches and dropout."""
    max_minutes: Annotated[float, Field(gt=0.0)] | None = None
    """Minutes after which the run finishes its step, saves a checkpoint and stops with exit code
    75; no limit if not given."""
    max_bad_steps: PositiveInt = 10
    """Bad steps in a row after which the run ends: their gradients are not finite, or their loss is
    a spike. Such a step updates nothing on any rank."""
    spike_zscore: Annotated[float, Field(gt=0.0)] | None = None
    """Robust z-score, against the last 128 steps, above which a loss is a spike and its step is
    bad; spikes are not looked for if not given. 10 is a mild choice."""
    on_bad_steps: Literal["stop", "roll_back"] = "stop"
    """What too many bad steps in a row do: end the run with an error; or with exit code 75, so that
    the same command goes on from the last checkpoint before them and passes over these batches."""
    evaluate_every: NonNegativeInt = 0
    """Steps between evaluations; 0 evaluates only at the end."""
    evaluation_examples: PositiveInt | None = None
    """Held-out examples that are scored, evenly spread over them; all of them if not given."""
    evaluation_batch: PositiveInt = 512
    """Examples per forward pass of an evaluation and rank."""
