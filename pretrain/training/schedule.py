"""Learning rate as a pure function of the step, so that resuming is a number, not a state."""

from __future__ import annotations

import math

from pretrain.config import Config


def learning_rate(step: int, config: Config) -> float:
    """Rate of step `step`, counted from 0.

    Linear warm-up from 0 over `warmup_steps`, then: cosine to the minimum at the last step
    (Loshchilov and Hutter, arXiv 1608.03983, without restarts); `wsd`: the peak, then linear to
    the minimum over `decay_steps` (arXiv 2404.06395); or constant.
    """
    optimizer, steps = config.optimizer, config.training.steps
    peak = optimizer.learning_rate
    lowest = peak * optimizer.minimum_fraction
    warmup = optimizer.warmup_steps
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if optimizer.schedule == "constant":
        return peak
    start = warmup if optimizer.schedule == "cosine" else steps - config.decay_steps
    if step < start:
        return peak
    done = min(1.0, (step - start) / max(1, steps - 1 - start))
    if optimizer.schedule == "wsd":
        return peak + (lowest - peak) * done
    return lowest + (peak - lowest) * 0.5 * (1.0 + math.cos(math.pi * done))
