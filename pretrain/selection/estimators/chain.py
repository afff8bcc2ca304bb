"""An order from usable information in a chain: what each unit tells, and is told by, the others.

**Derivation.** A model that predicts the units of T one after the other pays, in bits,

    L(order) = sum over u of H(u | S, units before u)

By the chain rule this is H(T | S) whatever the order, and 0 where T is a function of S: information
as such prefers no order, and what S says of a single unit, H(u) in that case, is beside the point.
An order can only matter because a model *in training* cannot use all information. So H is replaced
by usable entropy H_V (Xu et al., 2020, arXiv 2002.10689), V being a small decoder that is asked
early, while it still learns, which breaks the chain rule. To first order in the units before,

    H_V(u | S, A)  ~  h[u] - sum over a in A of g[a, u]
    L(order)       ~  sum over u of h[u]  -  sum over a before u of g[a, u]
                   =  constant            -  1/2 sum over a before u of (g[a, u] - g[u, a])

g[a, u], the usable information of a about u given S, would be symmetric if it were information,
I(a; u | S); its *antisymmetric* part alone decides. a goes before u where a tells more of u than u
tells of a. The best order is the linear ordering problem of g, solved exactly by dynamic
programming over subsets (Held and Karp, 1962).

One decoder learns all orders at once, drawn evenly (arXiv 2404.09562), and is asked on held-out
examples in random orders; h and g are the least-squares fit to its answers at all checkpoints
together. Their mean over checkpoints makes L a slope of the learning curve, a piece of the
prequential code length of T (Blier and Ollivier, 2018, arXiv 1802.07044).

**Why entropy wins on multiplication.** A rough size of the product is usable early, from the
leading digits of the operands. Alone it does not give the thousands: they turn where the product
crosses a multiple of 1,000, so the size would have to be exact there. Once the digits below are
known, a size within 500 is enough, so the hundreds tell the thousands. The other way round the
thousands tell nothing of a lower digit that the rough size has not told. So g is one-sided between
hundreds and thousands, which go last, and even for the units, which depend on two source digits,
are soon known, and can stand anywhere. I(S; u) = H(u) has the thousands last for a reason of its
own: the leading digits of products are skewed, 2.71 bits against 3.03 and more. `pairwise` and
`operand_pair` ask what is seen in one or two source digits: units and thousands, which they put
first, and what the thousands would have been told is lost.

**What it does not see.** Units that the decoder cannot predict yet, such as tens and hundreds of a
product, seem to tell each other nothing, and their order rests on the rule for ties.

Letters: n examples, J source columns, U units, V values.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist

from pretrain.selection.estimators.order_estimator import (
    FEWEST_EXAMPLES,
    Finding,
    OrderEstimator,
    Sample,
    Steps,
)
from pretrain.selection.orders.decoder import LearnedSettings, Learner, Progress
from pretrain.selection.orders.strategies import Order

CHECKPOINTS = 20
MOST_UNITS = 16
EARLY = LearnedSettings(steps=400, scored=1024)
"""Asked early: later the decoder knows the easy units whatever is before them."""


@dataclass(frozen=True)
class Chain:
    """An order and what it rests on.

    Attributes:
        order: units in the order in which they are to be predicted.
        alone: [U] h, usable entropy in bits of each unit given the source only.
        told: [U, U] g, bits that the row's unit tells of the column's; 0 on the diagonal.
        examples: over all ranks.
        steps: updates of the decoder.
        sequences: trained and scored, over all ranks.
        flops: model FLOPs over all ranks.
        seconds: wall time on this rank.
    """

    order: Order
    alone: np.ndarray
    told: np.ndarray
    examples: int
    steps: int
    sequences: int
    flops: int
    seconds: float

    def bits(self, order: Order) -> float:
        """L(order), the cost of a whole target in bits."""
        return float(self.alone.sum() - gain(self.told, order))


class ChainOrder(OrderEstimator):
    """Estimator `chain`."""

    most_units = MOST_UNITS
    fewest_examples = FEWEST_EXAMPLES

    def find(
        self, sample: Sample, group: dist.ProcessGroup | None = None, progress: Steps | None = None
    ) -> Finding:
        """See :func:`chain_order`."""
        found = chain_order(
            sample.source, sample.target, sample.vocabulary, group, progress=progress
        )
        return Finding(found.order, found.bits, found.examples, found.seconds, flops=found.flops)


def chain_order(
    source: np.ndarray,
    target: np.ndarray,
    vocabulary: int,
    group: dist.ProcessGroup | None = None,
    settings: LearnedSettings = EARLY,
    tie_bits: float = 0.1,
    progress: Progress | None = None,
) -> Chain:
    """The order of the lowest usable cost; its data-parallel rules are those of `learn_order`.

    Args:
        source: [n, J] whole numbers in [0, vocabulary), this rank's examples; n may be 0.
        target: [n, U] likewise, natural order.
        vocabulary: V.
        group: gloo group of the ranks that hold examples; None for one process.
        settings: the decoder; `scored` sequences are asked at each of 20 checkpoints, evenly over
            the last three quarters of the steps.
        tie_bits: orders that cost at most this much more than the cheapest are tied, and the last
            in natural order is taken. Where two units do not depend on each other, what they seem
            to tell differed by up to 0.07 bits from seed to seed.
        progress: called with (steps done, all steps).

    Raises:
        ValueError: a value is out of range, sources and targets differ in number, all ranks
            together hold fewer than 100 examples, there are more than 16 units, or tie_bits is
            below 0.
    """
    started = time.perf_counter()
    units = target.shape[1]
    _check(units, tie_bits)
    learner = Learner(source, target, vocabulary, group, settings)
    moments = np.zeros((units, units + 1, units + 2))
    checkpoints = _checkpoints(settings.steps)
    for step in range(1, settings.steps + 1):
        learner.step(_random_orders(settings.batch, units, learner.random("orders")))
        if step in checkpoints:
            moments += _ask(learner, units)
        if progress:
            progress(step, settings.steps)
    alone, told = fit(learner.add_up(torch.from_numpy(moments)).numpy())
    return Chain(
        order=best_order(told, tie_bits),
        alone=alone,
        told=told,
        examples=learner.examples,
        steps=learner.steps,
        sequences=learner.trained + learner.scored,
        flops=learner.flops,
        seconds=time.perf_counter() - started,
    )


def fit(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of what each unit costs on which units are before it.

    Args:
        moments: [U, U + 1, U + 2] for each unit the sums of outer products x (x, y): x is 1 and
            whether each unit is before, y the cost in bits.

    Returns:
        alone [U] and told [U, U], as in :class:`Chain`.
    """
    units = len(moments)
    alone, told = np.zeros(units), np.zeros((units, units))
    for unit in range(units):
        others = np.arange(units) != unit
        known = np.flatnonzero(np.append(True, others))
        weights = np.linalg.lstsq(
            moments[unit][np.ix_(known, known)], moments[unit][known, -1], rcond=None
        )[0]
        alone[unit], told[others, unit] = weights[0], -weights[1:]
    return alone, told


def gain(told: np.ndarray, order: Order) -> float:
    """Sum of told[a, u] over a before u, in bits."""
    return float(np.triu(told[np.ix_(order, order)], 1).sum())


def best_order(told: np.ndarray, tie_bits: float = 0.0) -> Order:
    """Of the orders whose gain is within `tie_bits` of the largest, the last in natural order.

    The last: its first unit is the last possible, then its second, and so on. Takes U 2^U numbers.

    Args:
        told: [U, U] bits that the row's unit tells of the column's.
        tie_bits: bits that an order may lack, in all.

    Raises:
        ValueError: there are more than 16 units, or tie_bits is below 0.
    """
    units = len(told)
    _check(units, tie_bits)
    before = (np.arange(1 << units)[:, None] >> np.arange(units)) & 1
    gains = before @ told  # of each unit after each set of units
    # The largest gain of the units that follow each set.
    rest = np.zeros(1 << units)
    for placed in reversed(range((1 << units) - 1)):
        free = np.flatnonzero(before[placed] == 0)
        rest[placed] = (gains[placed, free] + rest[placed | (1 << free)]).max()
    order: list[int] = []
    placed, spare = 0, tie_bits
    while len(order) < units:
        free = np.flatnonzero(before[placed] == 0)
        lacking = rest[placed] - gains[placed, free] - rest[placed | (1 << free)]
        chosen = np.flatnonzero(lacking <= max(spare, lacking.min()))[-1]
        spare -= float(lacking[chosen])
        order.append(int(free[chosen]))
        placed |= 1 << order[-1]
    return tuple(order)


def _check(units: int, tie_bits: float) -> None:
    if tie_bits < 0.0:
        raise ValueError(f"tie_bits is {tie_bits}; use 0 or more")
    if units > MOST_UNITS:
        raise ValueError(
            f"a chain of {units} units was asked for, expected at most {MOST_UNITS}, whose subsets "
            "can be gone through; use learn_order for longer targets"
        )


def _random_orders(examples: int, units: int, random: np.random.Generator) -> np.ndarray:
    return random.permuted(np.tile(np.arange(units), (examples, 1)), axis=1)


def _checkpoints(steps: int) -> set[int]:
    """Steps after which the decoder is asked."""
    return set(np.linspace(steps // 4, steps, CHECKPOINTS + 1, dtype=int)[1:].tolist())


def _ask(learner: Learner, units: int) -> np.ndarray:
    """This rank's share of the moments that :func:`fit` takes, from held-out examples by chance."""
    random = learner.random("ask")
    examples = random.choice(learner.held_out, learner.settings.scored)
    orders = _random_orders(len(examples), units, random)
    bits, own = learner.ask(examples, orders)
    asked = orders[own]
    hot = np.eye(units)[asked]  # [b, U places, U units]
    before = hot.cumsum(axis=1) - hot
    one = np.ones((*asked.shape, 1))
    x = np.concatenate([one, before, bits[:, :, None]], axis=2)
    return np.asarray(np.einsum("bpu,bpx,bpy->uxy", hot, x[:, :, :-1], x))
