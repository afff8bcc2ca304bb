"""Learning rate as a pure function of the step, so that resuming is a number, not a state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pretrain.config import Config


def learning_rate(step: int, config: Config) -> float:
    """Rate of step `step`, counted from 0.

    Linear warm-up from 0 over `warmup_steps`, then: cosine to the minimum at the last step
    (Loshchilov and Hutter, arXiv 1608.03983, without restarts); `wsd`: the peak, then linear to
    the minimum over `decay_steps`, each of them lower than the one before and the last at the
    minimum (arXiv 2404.06395); or constant.
    """
    optimizer, steps = config.optimizer, config.training.steps
    peak = optimizer.learning_rate
    lowest = peak * optimizer.minimum_fraction
    warmup = optimizer.warmup_steps
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if optimizer.schedule == "constant":
        return peak
    if optimizer.schedule == "wsd":
        fallen = step + 1 - (steps - config.decay_steps)
        return peak + (lowest - peak) * min(1.0, max(0, fallen) / config.decay_steps)
    done = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
    return lowest + (peak - lowest) * 0.5 * (1.0 + math.cos(math.pi * done))


def warm_up_warning(config: Config) -> str:
    """What is wrong with a warm-up that leaves the schedule nothing; empty if it is none."""
    optimizer, steps = config.optimizer, config.training.steps
    name = f"optimizer.warmup_steps {optimizer.warmup_steps}"
    if optimizer.warmup_steps >= steps:
        share = (steps / (optimizer.warmup_steps + 1)) if steps else 0.0
        return (
            f"{name}: the warm-up does not end within training.steps {steps}; the learning rate "
            f"only rises, to {share:.3g} of optimizer.learning_rate; choose fewer"
        )
    if optimizer.schedule == "cosine" and optimizer.warmup_steps == steps - 1 and steps > 1:
        return (
            f"{name}: the warm-up leaves one of training.steps {steps} for the cosine; the "
            "learning rate does not fall; choose fewer"
        )
    return ""


def told_schedule(config: Config, before: Mapping[str, Any], done: int) -> str:
    """For people: what another number of steps does to the schedule of a run that goes on after
    `done` of them; empty where it is the same.

    Args:
        before: configuration of the checkpoint.
    """
    steps, planned = config.training.steps, before.get("training", {}).get("steps")
    if planned in (None, steps) or not 0 < done < steps:
        return ""
    earlier = config.model_copy(
        update={"training": config.training.model_copy(update={"steps": planned})}
    )
    schedule = config.optimizer.schedule
    now = [learning_rate(step, config) for step in (done, steps - 1)]
    was = learning_rate(min(done, planned) - 1, earlier)
    told = f"training.steps was {planned:,} and is {steps:,}: "
    if schedule == "constant":
        return f"{told}the learning rate stays at {now[0]:.3g}"
    ended = f"{schedule} had ended at" if done >= planned else f"{schedule} had come to"
    return (
        f"{told}{ended} {was:.3g} in step {done:,}; laid out over {steps:,} steps it is "
        f"{now[0]:.3g} in step {done + 1:,} and {now[1]:.3g} in the last"
    )
