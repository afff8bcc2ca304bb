"""Mutual information of source and target units from sharded counts, in bits.

Plug-in estimate, as entropies of counts c out of N (Cover and Thomas, Elements of Information
Theory, section 2.4):

    I(S; u) = H(S) + H(u) - H(S, u),    H = log2 N - (1/N) sum c log2 c

Miller and Madow's correction (Miller, 1955) adds (K - 1) / (2 N ln 2) bits to each entropy, with K
the number of values that occur.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from pretrain.selection.counts import ShardedCounts, Slots, entropy_sums, fixed_point


def mutual_information(counts: ShardedCounts, correction: str = "none") -> np.ndarray:
    """I(slot; unit) in bits, [slots, units] float64, the same on every rank to the last bit.

    Args:
        counts: the table.
        correction: "none" or "miller_madow".

    Raises:
        ValueError: nothing was counted, or the correction is unknown.
    """
    if counts.examples == 0:
        raise ValueError("mutual information needs at least one example; the table is empty")
    if correction not in ("none", "miller_madow"):
        raise ValueError(f"unknown correction {correction!r}; use none or miller_madow")
    joint, joint_cells, bits = entropy_sums(counts)
    slots = len(counts.slots)
    rows = np.zeros(slots, np.int64)
    np.add.at(rows, counts.row_slots, fixed_point(counts.frequencies, bits))
    row_cells = np.bincount(counts.row_slots, minlength=slots)
    columns = fixed_point(counts.columns, bits).sum(axis=1)
    column_cells = np.count_nonzero(counts.columns, axis=1)

    n = counts.examples
    # H(S) + H(u) - H(S, u) with the logs of N put together; only the last step is floating point.
    sums = joint - rows[:, None] - columns[None, :]
    information = math.log2(n) + np.ldexp(sums.astype(np.float64), -bits) / n
    if correction == "miller_madow":
        excess = (row_cells[:, None] - 1) + (column_cells[None, :] - 1) - (joint_cells - 1)
        information = information + excess / (2.0 * n * math.log(2.0))
    return np.asarray(information)


@dataclass(frozen=True)
class Estimator:
    """A named reading of MI(S; unit).

    Attributes:
        name: as the configuration spells it.
        slots: source columns looked at together, for J source columns.
        combine: [slots, units] bits -> [units] bits.
    """

    name: str
    slots: Callable[[int], Slots]
    combine: Callable[[np.ndarray], np.ndarray]


ESTIMATORS = {
    estimator.name: estimator
    for estimator in (
        # I(S; u) with the source as one variable. Where the target is a function of the source
        # this is H(u).
        Estimator("joint", lambda j: [tuple(range(j))], lambda bits: bits[0]),
        # Sum over source columns of I(S_j; u).
        Estimator("pairwise", lambda j: [(i,) for i in range(j)], lambda bits: bits.sum(axis=0)),
        # The largest I((S_j, S_k); u) over pairs of source columns.
        Estimator(
            "operand_pair",
            lambda j: list(combinations(range(j), 2)),
            lambda bits: bits.max(axis=0),
        ),
    )
}
