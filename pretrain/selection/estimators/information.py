"""Mutual information of source and target units from counts, in bits.

Plug-in estimate, as entropies of counts c out of N (Cover and Thomas, Elements of Information
Theory, section 2.4):

    I(S; u) = H(S) + H(u) - H(S, u),    H = log2 N - (1/N) sum c log2 c

Corrections of its bias, which is upwards:

- miller_madow (Miller, Note on the bias of information estimates, 1955) adds (K - 1) / (2 N ln 2)
  bits to each entropy, with K the number of values that occur.
- shrinkage (Hausser and Strimmer, Entropy inference and the James-Stein estimator, 2009,
  equations 4 to 6) moves the joint distribution p towards the even one over its K cells by
  lambda = (1 - sum p^2) / ((N - 1) sum (1/K - p)^2), cut to [0, 1]; K is the number of features
  that occur times the number of values that occur.
- leave_one_out takes for H(u | S) what it costs to predict the unit of each example from all the
  other examples (cross-validation, Stone, Cross-validatory choice and assessment, 1974) by the rule
  of Krichevsky and Trofimov (The performance of universal encoding, 1981), half a count more for
  each of the unit's K values:

      H(u | S)  ~  -(1/N) sum over examples of log2 ((c(s, u) - 1/2) / (c(s) - 1 + K/2))

  A source that occurs once tells nothing, and the estimate is too low rather than too high: what a
  learner that counts has of so many examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Literal

import numpy as np

from pretrain.selection.table import kernels
from pretrain.selection.table.collectives import add_up, gather_numbers
from pretrain.selection.table.counts import ShardedCounts
from pretrain.selection.table.positions import Slots
from pretrain.selection.table.sharding import BudgetError

Correction = Literal["none", "miller_madow", "shrinkage", "leave_one_out"]
CORRECTIONS: tuple[Correction, ...] = ("none", "miller_madow", "shrinkage", "leave_one_out")


@dataclass(frozen=True)
class Spectrum:
    """How many cells of a table have each count.

    Attributes:
        counts: [m] distinct counts above 0, rising.
        cells: [m] cells with that count.
    """

    counts: np.ndarray
    cells: np.ndarray

    @property
    def occurring(self) -> int:
        """Cells with a count."""
        return int(self.cells.sum())

    def total(self, of: Callable[[int], float]) -> float:
        """Sum of `of(count)` over all cells; the same to the last bit in any order."""
        return math.fsum(
            n * of(c) for c, n in zip(self.counts.tolist(), self.cells.tolist(), strict=True)
        )

    @cached_property
    def weighted(self) -> float:
        """Sum of c log2 c over all cells."""
        return self.total(lambda c: c * math.log2(c))

    @cached_property
    def left_out(self) -> float:
        """Sum of c log2 (c - 1/2) over all cells."""
        return self.total(lambda c: c * math.log2(c - 0.5))


def spectrum_of(values: np.ndarray) -> Spectrum:
    """Spectrum of counts in memory."""
    return Spectrum(*np.unique(values[values > 0], return_counts=True))


def joint_spectra(counts: ShardedCounts) -> list[list[Spectrum]]:
    """Spectrum of the cells of each group of features and unit, over all ranks."""
    row_groups, width, slots = counts.groups
    units = counts.columns // width
    small_limit = min(kernels.SMALL, counts.marginals.total + 1)
    small = np.zeros((slots, units, small_limit), dtype=np.int64)
    groups, large = kernels.spectrum(counts.table.arrays, row_groups[counts.owned], width, small)
    # Cells as (group, count, number), the same list for all ranks once merged.
    found = np.argwhere(small)
    triples = np.concatenate(
        [
            np.stack(
                [found[:, 0] * units + found[:, 1], found[:, 2], small[tuple(found.T)]], axis=1
            ),
            np.stack([groups, large, np.ones_like(large)], axis=1),
        ]
    )
    everyone = np.concatenate(gather_numbers(triples.ravel(), counts.group)).reshape(-1, 3)
    merged = []
    for group in range(slots * units):
        of_group = everyone[everyone[:, 0] == group]
        values, where = np.unique(of_group[:, 1], return_inverse=True)
        cells = np.zeros(len(values), dtype=np.int64)
        np.add.at(cells, where, of_group[:, 2])
        merged.append(Spectrum(values, cells))
    return [merged[slot * units : (slot + 1) * units] for slot in range(slots)]


def information(
    rows: Spectrum, columns: Spectrum, joint: Spectrum, n: int, correction: Correction
) -> float:
    """I of two variables in bits, from the counts of each and of both together.

    Args:
        rows, columns, joint: over the same n examples; columns is the unit.
        n: examples.
        correction: see the module.
    """
    if correction == "shrinkage":
        return _shrunk_information(rows, columns, joint, n)
    if correction == "leave_one_out":
        more = 0.5 * columns.occurring - 1.0
        alone = math.log2(n) - columns.weighted / n
        return alone - (rows.total(lambda c: c * math.log2(c + more)) - joint.left_out) / n
    bits = math.log2(n) + (joint.weighted - rows.weighted - columns.weighted) / n
    if correction == "miller_madow":
        excess = (rows.occurring - 1) + (columns.occurring - 1) - (joint.occurring - 1)
        bits += excess / (2.0 * n * math.log(2.0))
    return bits


def _shrunk_information(rows: Spectrum, columns: Spectrum, joint: Spectrum, n: int) -> float:
    cells = rows.occurring * columns.occurring
    squares = joint.total(lambda c: c * c) / (n * n)
    spread = squares - 1.0 / cells
    weight = 1.0 if n == 1 or spread <= 0.0 else (1.0 - squares) / ((n - 1) * spread)
    weight = min(1.0, max(0.0, weight))

    def entropy(spectrum: Spectrum, size: int) -> float:
        def term(count: int) -> float:
            p = weight / size + (1.0 - weight) * count / n
            return -p * math.log2(p) if p > 0.0 else 0.0

        return spectrum.total(term) + (size - spectrum.occurring) * term(0)

    return (
        entropy(rows, rows.occurring) + entropy(columns, columns.occurring) - entropy(joint, cells)
    )


def mutual_information(counts: ShardedCounts, correction: Correction = "none") -> np.ndarray:
    """I(slot; unit) in bits, [slots, units] float64, the same on every rank to the last bit.

    Args:
        counts: every example has one feature of each slot and one value of each unit (a table of
            positions), or every pair is one event (windows).
        correction: "none", "miller_madow" or "shrinkage".

    Raises:
        ValueError: nothing was counted, the correction is unknown, or features are not exclusive
            (presence of words).
        BudgetError: rows are missing (top_k).
    """
    marginals = counts.marginals
    if marginals.total == 0:
        raise ValueError("mutual information needs at least one example; the table is empty")
    if correction not in CORRECTIONS:
        raise ValueError(f"unknown correction {correction!r}; use {', '.join(CORRECTIONS)}")
    if counts.layout == "top_k":
        raise BudgetError(
            "mutual information needs every row, and this table has layout top_k; raise the "
            "memory budget, use more ranks, or score by pmi"
        )
    row_groups, width, slots = counts.groups
    by_slot = [marginals.rows[row_groups == slot] for slot in range(slots)]
    by_unit = marginals.columns.reshape(-1, width)
    if any(int(values.sum()) != marginals.total for values in (*by_slot, *by_unit)):
        raise ValueError(
            "an example has several features, or none, of one slot; I(slot; unit) is not defined "
            "for such a table, use presence_information"
        )
    rows, columns = [spectrum_of(v) for v in by_slot], [spectrum_of(v) for v in by_unit]
    joint = joint_spectra(counts)
    return np.array(
        [
            [
                information(
                    rows[slot], columns[unit], joint[slot][unit], marginals.total, correction
                )
                for unit in range(len(columns))
            ]
            for slot in range(slots)
        ]
    ).reshape(slots, len(columns))


def presence_information(
    counts: ShardedCounts, reduce: Literal["sum", "top"] = "sum", top: int = 10
) -> np.ndarray:
    """How much the words of a text tell about each label, [labels] bits, the same on every rank.

    For a word f and a label u, the mutual information of two yes-or-no questions, whether the text
    has f and whether it has u (Yang and Pedersen, A comparative study on feature selection in text
    categorization, 1997, section 2.3, where it is called information gain):

        I(f; u) = sum over the four cells of n_ij / N * log2(N n_ij / (n_i n_j))

    Args:
        counts: words and labels, counted with presence.
        reduce: "sum" over all words; "top": mean over the `top` words that tell the most.
        top: see `reduce`; where there are fewer words, the others count as 0.

    Raises:
        ValueError: the table was not counted with presence, or is empty.
        BudgetError: it lacks rows (top_k).
    """
    if not counts.pairs.presence:
        raise ValueError("label information needs presence counts; count with Pairs(presence=True)")
    if counts.layout == "top_k":
        raise BudgetError(
            "label information needs every row, and this table has layout top_k; raise the memory "
            "budget, use more ranks, or score by pmi"
        )
    if reduce not in ("sum", "top") or top < 1:
        raise ValueError(f"reduce is {reduce!r} with top {top}; use sum, or top with 1 or more")
    marginals = counts.marginals
    n = marginals.documents
    if n == 0:
        raise ValueError("label information needs at least one document; the table is empty")
    # Sums stay below 2**62: each value is at most n bits, and n log2 n on the way.
    largest = max(counts.rows * n, 16 * n * max(1.0, math.log2(n)))
    scale = 2.0 ** (61 - math.ceil(math.log2(largest + 1)))
    best = np.zeros((counts.columns, top if reduce == "top" else 0), dtype=np.int64)
    owned = counts.owned
    sums = kernels.presence_information(
        counts.table.arrays, marginals.rows[owned], marginals.columns, n, scale, best
    )
    if reduce == "sum":
        return np.asarray(add_up(sums, counts.group) / (scale * n))
    everyone = np.concatenate(
        [part.reshape(counts.columns, top) for part in gather_numbers(best.ravel(), counts.group)],
        axis=1,
    )
    return np.asarray(np.sort(everyone, axis=1)[:, -top:].sum(axis=1) / (scale * n * top))


@dataclass(frozen=True)
class Estimator:
    """A named reading of MI(S; unit) from a table of positions.

    Attributes:
        name: as the configuration spells it.
        slots: source columns looked at together, for J source columns.
        combine: [slots, units] bits -> [units] bits.
    """

    name: str
    slots: Callable[[int], Slots]
    combine: Callable[[np.ndarray], np.ndarray]


def _pairs(columns: int) -> Sequence[tuple[int, ...]]:
    return list(combinations(range(columns), 2))


ESTIMATORS = {
    estimator.name: estimator
    for estimator in (
        # I(S; u) with the source as one variable. Where the target is a function of the source
        # this is H(u).
        Estimator("joint", lambda j: [tuple(range(j))], lambda bits: bits[0]),
        # Sum over source columns of I(S_j; u).
        Estimator("pairwise", lambda j: [(i,) for i in range(j)], lambda bits: bits.sum(axis=0)),
        # The largest I((S_j, S_k); u) over pairs of source columns.
        Estimator("operand_pair", _pairs, lambda bits: bits.max(axis=0)),
    )
}
