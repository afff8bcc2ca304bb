"""Mean, spread and confidence interval of a few numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

CONFIDENCE = 0.95


def t_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's t.

    Raises:
        ValueError: there is no degree of freedom.
    """
    from scipy.stats import t  # slow to import

    if freedom < 1:
        raise ValueError(f"{freedom} degrees of freedom; at least 1 is needed, that is two values")
    return float(t.ppf(0.5 + CONFIDENCE / 2, freedom))


def spread(values: Sequence[float]) -> float | None:
    """Sample standard deviation; None for one value."""
    return stdev(values) if len(values) > 1 else None


def interval(values: Sequence[float]) -> list[float] | None:
    """95 % confidence interval of the mean, by Student's t; None for fewer than two values."""
    if len(values) < 2:
        return None
    half = t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return [fmean(values) - half, fmean(values) + half]


def column_means(rows: Sequence[Sequence[float]]) -> list[float]:
    """Mean of each column of [rows, columns]."""
    return [fmean(column) for column in zip(*rows, strict=True)]
