"""Orders that are learned: the one whose loss falls first while a small decoder learns them all.

After Sato, Kawamoto and Kera, Chain of Thought in Order: Discovering Learning-Friendly Orders for
Arithmetic, 2025, arXiv 2506.23875. Networks learn what is easy first, so a decoder is trained
briefly on a mixture of orders, and the orders with the lowest held-out loss are kept:

    loss(order) = sum over its units u of -log2 P(u | S, units before u)

Three things differ from the paper. The decoder is told which unit it is asked for next (as in
Pannatier et al., sigma-GPTs, 2024, arXiv 2404.09562), so that a mixture is no guessing game. Orders
are dropped by halves while it trains on (successive halving, Jamieson and Talwalkar, 2016,
arXiv 1502.07943). And a mixture tells orders apart badly, since what one order teaches helps the
others: once few are left, each is trained alone, all from the mixture's weights, and halved again
by the mean of its losses so far, which is the lowest for the one whose loss falls first.

Coarse to fine: up to 5 units, all orders are tried. More units are first cut into 5 blocks, whose
120 orders are tried with the units inside in random order; then the inside of every block likewise,
all blocks at once. No more than 120 orders per block are ever listed. Trained alone are whole
orders: the best of every block together, then the second best of every block, and so on.

Letters: n examples, J source columns, U units, V values, H hidden size, b examples of a batch, P =
J + U positions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np

from pretrain.selection.orders.decoder import LearnedSettings, Learner, Progress
from pretrain.selection.orders.strategies import Order

if TYPE_CHECKING:
    import torch.distributed as dist

BLOCKS = 5
DEFAULTS = LearnedSettings()

Block = tuple[int, ...]


@dataclass(frozen=True)
class Round:
    """What one round compared.

    Attributes:
        steps: updates done when it scored.
        alone: whether each order was trained by itself.
        orders: of the units of each block that it compared, best first; whole orders where they
            were trained alone.
        bits: held-out loss of the whole target for each of them, per example; the mean over its
            rounds so far where they were trained alone.
    """

    steps: int
    alone: bool
    orders: tuple[tuple[Order, ...], ...]
    bits: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Learned:
    """An order and what it cost to find.

    Attributes:
        order: units in the order in which they are to be predicted.
        rounds: what was compared on the way.
        steps: updates.
        sequences: trained and scored, over all ranks.
        flops: model FLOPs over all ranks; a training step is 3 forward passes
            (:func:`pretrain.selection.orders.decoder.forward_flops`).
        seconds: wall time on this rank.
    """

    order: Order
    rounds: tuple[Round, ...]
    steps: int
    sequences: int
    flops: int
    seconds: float


def learn_order(
    source: np.ndarray,
    target: np.ndarray,
    vocabulary: int,
    group: dist.ProcessGroup | None = None,
    settings: LearnedSettings = DEFAULTS,
    progress: Progress | None = None,
) -> Learned:
    """The order that a small decoder learns first.

    Rank r of R holds the global examples r, r + R, r + 2R and so on. Held-out examples, batches and
    orders are drawn by global index from the seed; gradients and scores are summed over the ranks,
    so that all ranks return the same order and rounds. Other numbers of ranks or threads change the
    rounding of float32 sums, which matters where two orders are as good as tied.

    Args:
        source: [n, J] whole numbers in [0, vocabulary), this rank's examples; n may be 0.
        target: [n, U] likewise, natural order.
        vocabulary: V.
        group: gloo group of the ranks that hold examples; None for one process.
        settings: the decoder and its budget.
        progress: called with (steps done, all steps).

    Raises:
        ValueError: a value is out of range, sources and targets differ in number, all ranks
            together hold fewer than 100 examples, or there are fewer steps than rounds.
    """
    started = time.perf_counter()
    units = target.shape[1]
    rounds = count_rounds(units, settings.finalists)
    if settings.steps < rounds:
        raise ValueError(
            f"steps is {settings.steps}, and {units} units take {rounds} rounds of mixtures; use "
            f"{rounds} steps at least, some hundreds to tell orders apart"
        )
    learner = Learner(source, target, vocabulary, group, settings)
    planned = count_updates(units, settings)

    def train(left: list[list[tuple[Block, ...]]], updates: int) -> None:
        for _ in range(updates):
            learner.step(_draw(left, settings.batch, learner.random("orders")))
            if progress:
                progress(learner.updates, planned)

    blocks: list[Block] = [tuple(range(units))]
    trail: list[Round] = []
    mixed = 0
    while len(blocks) < units:
        # Of each block, the orders of its pieces that are left, the best first.
        left = [list(permutations(split(block))) for block in blocks]
        while True:
            mixed += 1
            train(left, settings.steps * mixed // rounds - settings.steps * (mixed - 1) // rounds)
            trail.append(_compare(learner, left))
            left = [_better_half(orders, settings.finalists) for orders in left]
            if max(len(orders) for orders in left) <= settings.finalists:
                break
        trail += (final := _Final(learner, left)).run(train)
        blocks = [piece for order in final.best for piece in order]
    order = tuple(unit for block in blocks for unit in block)
    return Learned(
        order=order,
        rounds=tuple(trail),
        steps=learner.updates,
        sequences=learner.trained + learner.scored,
        flops=learner.flops,
        seconds=time.perf_counter() - started,
    )


def split(block: Sequence[int]) -> list[Block]:
    """A block's pieces: as many as it has units, at most 5, of nearly the same length."""
    return [tuple(part.tolist()) for part in np.array_split(block, min(BLOCKS, len(block)))]


def _better_half(orders: list[Any], at_least: int) -> list[Any]:
    return orders[: max(-(-len(orders) // 2), at_least)]


def _levels(units: int) -> list[int]:
    """Orders of the block with most pieces, at each level from coarse to fine."""
    listed, longest = [], units
    while longest > 1:
        pieces = min(BLOCKS, longest)
        listed.append(math.factorial(pieces))
        longest = -(-longest // pieces)
    return listed


def count_rounds(units: int, finalists: int) -> int:
    """Rounds of mixtures that :func:`learn_order` takes: one per level at least."""
    rounds = 0
    for left in _levels(units):
        rounds += 1
        while (left := max(-(-left // 2), min(left, finalists))) > finalists:
            rounds += 1
    return rounds


def count_updates(units: int, settings: LearnedSettings) -> int:
    """Updates that :func:`learn_order` makes in all."""
    updates = 0
    for listed in _levels(units):
        updates += settings.steps if not updates else 0
        left = min(listed, settings.finalists)
        while left > 1:
            updates += left * max(1, settings.alone // left)
            left = -(-left // 2)
    return updates


def _draw(
    left: list[list[tuple[Block, ...]]], examples: int, random: np.random.Generator
) -> np.ndarray:
    """Orders by chance among those left, the units of a piece in any order, [examples, U]."""
    parts = []
    for orders in left:
        shuffled = {
            piece: random.permuted(np.tile(piece, (examples, 1)), axis=1)
            for piece in sorted(orders[0])  # the same numbers whatever the order
        }
        every = np.stack(
            [np.concatenate([shuffled[piece] for piece in order], axis=1) for order in orders]
        )
        parts.append(every[random.integers(len(orders), size=examples), np.arange(examples)])
    return np.concatenate(parts, axis=1)


def _compare(learner: Learner, left: list[list[tuple[Block, ...]]]) -> Round:
    """Sorts the orders left of each block by held-out loss, all else the same for all of them."""
    orders, bits = [], []
    for position, block in enumerate(left):
        if len(block) == 1:
            continue
        scores = []
        examples = learner.held_out[: max(1, learner.settings.scored // len(block))]
        for candidate in block:
            whole = [[other[0]] for other in left]
            whole[position] = [candidate]
            drawn = _draw(whole, len(examples), np.random.default_rng(learner.settings.seed))
            scores.append(learner.bits(examples, drawn))
        best = np.argsort(scores, kind="stable")
        block[:] = [block[i] for i in best]
        orders.append(tuple(tuple(unit for piece in order for unit in piece) for order in block))
        bits.append(tuple(scores[i] for i in best))
    return Round(learner.updates, False, tuple(orders), tuple(bits))


class _Final:
    """The orders that are left, each trained alone from the same weights, and halved."""

    def __init__(self, learner: Learner, left: list[list[tuple[Block, ...]]]) -> None:
        self.learner = learner
        places = range(max(len(orders) for orders in left))
        # The i-th best of every block; the last where a block has fewer.
        self.left = [[orders[min(i, len(orders) - 1)] for orders in left] for i in places]
        self.best = self.left[0]

    def run(self, train: Callable[[list[list[tuple[Block, ...]]], int], None]) -> list[Round]:
        """What each round compared; leaves the best order's weights in the learner."""
        learner, settings = self.learner, self.learner.settings
        examples = learner.held_out[: settings.scored]
        trail: list[Round] = []
        runs = [(0.0, order, learner.snapshot()) for order in self.left]
        while len(runs) > 1:
            scored = []
            for total, order, weights in runs:
                learner.restore(weights)
                alone = [[part] for part in order]
                train(alone, max(1, settings.alone // len(runs)))
                drawn = _draw(alone, len(examples), np.random.default_rng(settings.seed))
                bits = total + learner.bits(examples, drawn)
                scored.append((bits, order, learner.snapshot()))
            runs = sorted(scored, key=lambda run: run[0])
            orders = tuple(
                tuple(unit for part in order for piece in part for unit in piece)
                for _, order, _ in runs
            )
            means = tuple(total / (len(trail) + 1) for total, _, _ in runs)
            trail.append(Round(learner.updates, True, (orders,), (means,)))
            runs = runs[: -(-len(runs) // 2)]
        _, self.best, weights = runs[0]
        learner.restore(weights)
        return trail
