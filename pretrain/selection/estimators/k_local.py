"""k-local chain: the bits of a target that are still missing to a learner that looks at k symbols.

    R_k(order) = sum over units u of [ H(u) - max over A of I(A; u) ],
    A: at most k symbols of the source and of the units before u

Usable information (Xu et al., 2020, arXiv 2002.10689) where what can be used is any function of k
symbols; the smallest k for which R_k is 0 is the globality degree of the chain (Abbe et al., 2024,
arXiv 2406.06467), which says when a transformer learns a step at all. Nothing is trained: I comes
from counts (:mod:`pretrain.selection.estimators.information`), as entropies of sets of at most
k + 1 columns (:mod:`pretrain.selection.table.subsets`).

The largest of I over the sets of units that may be used is found for every set of units before u
at once, and the order of the least R_k by dynamic programming over these sets
(:mod:`pretrain.selection.orders.cheapest`). Of orders within `tie_bits`, the nearest to natural.

**Bias.** The plug-in estimate is too large where counts are thin, the more so for larger sets, and
a maximum over many sets picks the largest error. Of 300 examples of digits by chance, three tell
3.0 of the 3.3 bits of a fourth, of which Miller's correction takes away 0.02: it is of the first
order, and most cells have one count or none. So `leave_one_out` is the default here (see
:mod:`pretrain.selection.estimators.information`): a larger set has to foretell examples that it has
not seen. Where the examples are a whole domain, or all but a held-out share of it, counts are not a
sample, and nothing is corrected.

Letters: n examples, J source columns, U units, V values.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pretrain.config import SelectionConfig
from pretrain.selection.estimators.information import Correction, Spectrum, information
from pretrain.selection.estimators.order_estimator import Finding, OrderEstimator, Sample, Steps
from pretrain.selection.orders.cheapest import cheapest_order, check_units, order_cost
from pretrain.selection.orders.strategies import Order
from pretrain.selection.table.collectives import world
from pretrain.selection.table.counts import DEFAULT_BUDGET, Progress
from pretrain.selection.table.subsets import SubsetCounts, count_subsets

if TYPE_CHECKING:
    import torch.distributed as dist


@dataclass(frozen=True)
class KLocal:
    """An order and what it rests on; the same on every rank, `seconds` left out.

    Attributes:
        order: units in the order in which they are to be predicted.
        entropy: [U] H of each unit, bits.
        told: [U, 2^U] bits that the best k symbols of the source and of a set of units tell of each
            unit, bit b of the set's number being unit b; 0 where the set holds the unit itself.
        examples: counted over all ranks.
        bytes_per_rank: most bytes of counts that each rank held.
        seconds: wall time on this rank.
    """

    order: Order
    entropy: np.ndarray
    told: np.ndarray
    examples: int
    bytes_per_rank: tuple[int, ...]
    seconds: float

    def missing(self, order: Order) -> float:
        """R_k(order) in bits."""
        return order_cost(self.entropy[:, None] - self.told, order)

    @property
    def bits(self) -> np.ndarray:
        """[U] bits that k symbols tell of each unit at its place in `order`."""
        bits, placed = np.zeros(len(self.order)), 0
        for unit in self.order:
            bits[unit] = self.told[unit, placed]
            placed |= 1 << unit
        return bits


class KLocalOrder(OrderEstimator):
    """Estimator `k_local`."""

    counts = True
    measured = "what k symbols tell of each unit at its place"

    def find(
        self, sample: Sample, group: dist.ProcessGroup | None = None, progress: Steps | None = None
    ) -> Finding:
        """See :func:`k_local_order`."""
        settings, done = self.settings, 0
        tokens = sample.source.size + sample.target.size

        def counted(some: int) -> None:
            nonlocal done
            done += some
            if progress:
                progress(done, tokens)

        correction = "none" if sample.whole else settings.correction
        found = k_local_order(
            sample.source,
            sample.target,
            sample.vocabulary,
            settings.k,
            group,
            correction,
            settings.tie_bits,
            settings.chunk_tokens,
            settings.memory_bytes,
            counted,
        )
        bits = tuple(found.bits.tolist())
        return Finding(found.order, found.missing, found.examples, found.seconds, bits, correction)

    @classmethod
    def cells(
        cls, settings: SelectionConfig, columns: int, units: int, values: int, ranks: int
    ) -> int:
        """The values of each set of k + 1 columns with a unit among them, shared out."""
        width = min(settings.k + 1, columns + units)
        sets = math.comb(columns + units, width) - math.comb(columns, width)
        return -(-sets * values**width // ranks)


def k_local_order(
    source: np.ndarray,
    target: np.ndarray,
    vocabulary: int,
    k: int = 3,
    group: dist.ProcessGroup | None = None,
    correction: Correction = "none",
    tie_bits: float = 0.0,
    chunk_tokens: int = 1 << 20,
    budget: int = DEFAULT_BUDGET,
    progress: Progress | None = None,
) -> KLocal:
    """The order of the least R_k, from this rank's examples and those of the others of `group`.

    Args:
        source: [n, J] whole numbers in [0, vocabulary), this rank's examples; n may be 0.
        target: [n, U] likewise, natural order.
        k: symbols that are looked at together, 1 or more.
        correction: of the bias of each I.
        tie_bits: orders that miss at most this much more than the best are tied.
        vocabulary, group, chunk_tokens, budget, progress: see
            :func:`pretrain.selection.table.subsets.count_subsets`.

    Raises:
        ValueError: a value is out of range, there is no example, k is below 1, or there are more
            than 16 units.
        BudgetError: the counts do not fit the budget.
        UserError: another rank gave up or died.
    """
    started = time.perf_counter()
    check_units(target.shape[1])
    if k < 1:
        raise ValueError(f"k is {k}, expected 1 symbol or more")
    counts = count_subsets(source, target, vocabulary, k, group, chunk_tokens, budget, progress)
    entropy, told = tell(counts, source.shape[1], k, correction)
    ranks = world(group)[1]
    return KLocal(
        order=cheapest_order(entropy[:, None] - told, tie_bits),
        entropy=entropy,
        told=told,
        examples=counts.blocks.examples,
        bytes_per_rank=counts.blocks.bytes_per_rank(ranks),
        seconds=time.perf_counter() - started,
    )


def tell(
    counts: SubsetCounts, sources: int, k: int, correction: Correction = "none"
) -> tuple[np.ndarray, np.ndarray]:
    """Entropy of each unit, [U] bits, and what the best k symbols tell of it, [U, 2^U] bits; see
    :class:`KLocal`.

    Args:
        counts: of sets of up to k + 1 columns.
        sources: columns of the source; the others are units.
        k: symbols that are looked at together.
        correction: of the bias.
    """
    n, units = counts.blocks.examples, len(counts.blocks.sizes) - sources
    spectra = {set_: Spectrum(*spectrum) for set_, spectrum in counts.spectra.items()}
    told = np.zeros((units, 1 << units))
    for joint, spectrum in spectra.items():
        for unit in joint if len(joint) > 1 else ():
            if unit < sources:
                continue
            others = tuple(column for column in joint if column != unit)
            bits = information(spectra[others], spectra[unit,], spectrum, n, correction)
            used = sum(1 << (column - sources) for column in others if column >= sources)
            told[unit - sources, used] = max(told[unit - sources, used], bits)
    # A set of units tells what its best part tells.
    every = np.arange(1 << units)
    for unit in range(units):
        with_unit = every[every >> unit & 1 == 1]
        told[:, with_unit] = np.maximum(told[:, with_unit], told[:, with_unit ^ (1 << unit)])
    itself = every[None, :] >> np.arange(units)[:, None] & 1 == 1
    told[itself] = 0.0
    own = [spectra[sources + unit,] for unit in range(units)]
    # The same for every order; the other corrections are for two variables.
    one: Correction = "miller_madow" if correction == "miller_madow" else "none"
    entropy = [information(spectrum, spectrum, spectrum, n, one) for spectrum in own]
    return np.array(entropy), told
