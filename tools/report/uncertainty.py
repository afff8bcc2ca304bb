"""Mean, spread and confidence interval of a few numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

CONFIDENCE = 0.95
# Student's t, 97.5 %, for 1 to 10 degrees of freedom.
QUANTILES = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)


def t_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's t; from 11 degrees of freedom on by the Cornish-Fisher expansion
    (Abramowitz and Stegun 26.7.5), right to four decimals.

    Raises:
        ValueError: there is no degree of freedom.
    """
    if freedom < 1:
        raise ValueError(f"{freedom} degrees of freedom; at least 1 is needed, that is two values")
    if freedom <= len(QUANTILES):
        return QUANTILES[freedom - 1]
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))


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
