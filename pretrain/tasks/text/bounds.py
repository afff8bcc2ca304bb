"""Bounds of -log p(x) of a text x from a model of plans and text, p(z, x).

The text can be told behind any plan, so p(x) is the sum of p(z, x) over all plans z. What is summed
or drawn here is a part of it, so each figure is above the truth, in expectation over what is drawn.
z is drawn from q(z | x), a product over sentences; H is its entropy:

    joint      E_q[-log p(z, x)]
    ELBO       joint - H(q)
    IW-K       E[-log mean_k p(z_k, x) / q(z_k | x)], K draws   (Burda et al., arXiv 1509.00519)
    chain      E[sum over sentences j of -log sum over z_j of p(z_j, x_j | x_<j, z_<j)], where
               z_j is then drawn from its posterior, so that the sums' product has mean p(x)
    exact      -log sum over z of p(z, x), over q's candidates

joint >= ELBO = IW-1 >= IW-K >= exact >= -log p(x), and chain >= exact. The likelihood is a product
over units (:mod:`pretrain.tasks.text.windows`), and IW-K, chain and exact are taken for each by
itself. The plan s of a sentence that is cut by a window's edge touches several units: it is drawn
once for all draws, and enters as in the ELBO, by E[log q(s)], which Jensen's inequality allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pretrain.selection.orders.plans import Plans
from pretrain.tasks.text.windows import Windows

SIZES = (1, 4, 16, 64)
"""K of the importance-weighted bounds."""
Score = Callable[[np.ndarray], np.ndarray]
"""[sentences] column of each sentence's plan -> [cells] nats of the text with these plans."""


@dataclass(frozen=True)
class Bounds:
    """Bounds of a text, in nats.

    Attributes:
        elbo: of the drawn plans.
        importance: IW-K by K.
        chain: None where it was not asked for.
        exact: None where some unit has too many plans to go through.
    """

    elbo: float
    importance: dict[int, float]
    chain: float | None
    exact: float | None

    @classmethod
    def total(cls, parts: Sequence[Bounds]) -> Bounds:
        """Of several texts."""
        return cls(
            sum(part.elbo for part in parts),
            {size: sum(part.importance[size] for part in parts) for size in parts[0].importance},
            _sum([part.chain for part in parts]),
            _sum([part.exact for part in parts]),
        )

    @property
    def named(self) -> dict[str, float]:
        """Those that there are, by name."""
        named = {"elbo": self.elbo, **{f"iw_{k}": nats for k, nats in self.importance.items()}}
        named |= {"chain": self.chain} if self.chain is not None else {}
        return named | ({"exact": self.exact} if self.exact is not None else {})


def bounds_of(
    plans: Plans,
    windows: Windows,
    columns: np.ndarray,
    cells: np.ndarray,
    score: Score,
    most: int,
    numbers: np.ndarray | None = None,
) -> Bounds:
    """Bounds of a text.

    Args:
        plans: q of its sentences.
        windows: how it is cut.
        columns: [draws, sentences] plans that were drawn (:func:`shared`).
        cells: [draws, cells] nats of the text with them.
        score: further plans, for chain and exact.
        most: plans of a unit that are gone through for `exact`; IW-K is given up to this K.
        numbers: [sentences] in [0, 1), by which `chain` draws; it is left out without.
    """
    entropy = plans.entropy
    is_open = windows.open_in >= 0
    cut = float(entropy[~is_open].sum())
    units = np.stack([_by_unit(windows, draw) for draw in cells])
    log_q = np.take_along_axis(plans.log_shares, columns.T, axis=1).T
    weights = np.stack([_open_by_unit(windows, draw) for draw in log_q])
    elbo = float(units.sum(axis=1).mean() - entropy.sum())
    sizes = [size for size in SIZES if size <= most]
    if plans.counts.max(initial=0) <= 1:
        importance = dict.fromkeys(sizes, elbo)
    else:
        importance = {
            size: importance_weighted(units + weights, size) - cut
            for size in sizes
            if size <= len(cells)
        }
    first = columns[0]
    chain = None if numbers is None else chained(plans, windows, first, score, numbers) - cut
    exact = enumerated(plans, windows, first, score, most)
    return Bounds(elbo, importance, chain, None if exact is None else exact - cut)


def shared(columns: np.ndarray, windows: Windows) -> np.ndarray:
    """[draws, sentences] columns in which sentences that an edge cuts have the first draw's."""
    return np.where(windows.open_in >= 0, columns, columns[0])


def importance_weighted(terms: np.ndarray, size: int) -> float:
    """Mean over groups of `size` draws of the sum over units of -log mean exp(-term).

    Args:
        terms: [draws, units] -log p + log q in nats; draws beyond the last whole group are not
            used.
    """
    groups = len(terms) // size
    grouped = -terms[: groups * size].reshape(groups, size, -1)
    return float(-(_log_sum(grouped, 1) - math.log(size)).sum(axis=1).mean())


def enumerated(
    plans: Plans, windows: Windows, columns: np.ndarray, score: Score, most: int
) -> float | None:
    """Sum over units of -log sum over all plans of its whole sentences of p, in nats; None where
    some unit has more than `most`.

    Args:
        columns: [sentences] plans of sentences that are cut.
    """
    counts = plans.counts
    sizes = np.ones(windows.units)
    strides = np.ones(len(counts))
    for sentence in np.flatnonzero(windows.open_in >= 0).tolist():
        unit = windows.open_in[sentence]
        strides[sentence] = sizes[unit]
        sizes[unit] = min(sizes[unit] * counts[sentence], 2.0**40)
    if sizes.max(initial=1.0) > most:
        return None
    is_open = windows.open_in >= 0
    total = np.full(windows.units, -np.inf)
    for number in range(int(sizes.max(initial=1.0))):
        digits = number // strides.astype(np.int64) % np.maximum(counts, 1)
        units = _by_unit(windows, score(np.where(is_open, digits, columns)))
        total = np.where(number < sizes, np.logaddexp(total, -units), total)
    return float(-total.sum())


def chained(
    plans: Plans, windows: Windows, columns: np.ndarray, score: Score, numbers: np.ndarray
) -> float:
    """The bound `chain` in nats: whole sentences of each unit one after the other.

    Takes as many scores as the most candidates times the most whole sentences of a unit, and one.

    Args:
        columns: [sentences] plans of sentences that are cut.
        numbers: [sentences] in [0, 1), by which plans are drawn from their posterior.
    """
    columns, counts, bound = columns.copy(), plans.counts, 0.0
    is_open = windows.open_in >= 0
    for now in turns(windows):
        nats = np.full((int(counts[now].max()), len(now)), np.inf)
        for column in range(len(nats)):
            columns[now] = np.minimum(column, counts[now] - 1)
            told = _by_sentence(windows, score(columns), len(counts))[now]
            nats[column] = np.where(column < counts[now], told, np.inf)
        log_sum = _log_sum(-nats, 0)
        bound -= float(log_sum.sum())
        below = np.cumsum(np.exp(-nats - log_sum), axis=0) <= numbers[now]
        columns[now] = np.minimum(below.sum(axis=0), counts[now] - 1)
    rest = _by_sentence(windows, score(columns), len(counts))[~is_open]
    return bound + float(rest.sum())


def turns(windows: Windows) -> list[np.ndarray]:
    """Whole sentences: the first of each unit, then the second of each, and so on."""
    some = np.flatnonzero(windows.open_in >= 0)
    unit = windows.open_in[some]
    place = np.arange(len(some)) - np.searchsorted(unit, unit)
    return [some[place == turn] for turn in range(int(place.max(initial=-1)) + 1)]


def _by_unit(windows: Windows, cells: np.ndarray) -> np.ndarray:
    return np.bincount(windows.cell_units, cells, minlength=windows.units)


def _by_sentence(windows: Windows, cells: np.ndarray, sentences: int) -> np.ndarray:
    return np.bincount(windows.cell_sentences, cells, minlength=sentences)


def _open_by_unit(windows: Windows, values: np.ndarray) -> np.ndarray:
    """[units] sums of the values of whole sentences."""
    some = np.flatnonzero(windows.open_in >= 0)
    return np.bincount(windows.open_in[some], values[some], minlength=windows.units)


def _log_sum(values: np.ndarray, axis: int) -> np.ndarray:
    best = values.max(axis=axis)
    gaps = np.exp(values - np.expand_dims(best, axis))
    return np.asarray(best + np.log(gaps.sum(axis=axis)))


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
