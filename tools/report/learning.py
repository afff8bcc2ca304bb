"""Figures of a learning curve: how much was known on the way, and after a share of the training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

THIRD = 1 / 3


def area(tokens: Sequence[int], values: Sequence[float]) -> float:
    """Mean of a metric over the training between its first and its last evaluation.

    The area under the curve (trapezoids) by the tokens that it covers, in the metric's own unit;
    the only value of a curve of one evaluation.
    """
    if len(tokens) == 1:
        return float(values[0])
    return float(np.trapezoid(values, tokens) / (tokens[-1] - tokens[0]))


def value_at(tokens: Sequence[int], values: Sequence[float], share: float = THIRD) -> float | None:
    """A metric once `share` of the training is done, between two evaluations on the line that
    joins them; None where the first evaluation comes later."""
    wanted = share * tokens[-1]
    if tokens[0] > wanted + 0.5:  # tokens are whole
        return None
    return float(np.interp(wanted, tokens, values))
