"""Any-order decoder: what each unit costs a small model after every set of units before it.

A decoder is trained briefly with the units of every example in a new random order, told which unit
it is asked for next (sigma-GPT, Pannatier et al., 2024, arXiv 2404.09562). It then knows, for every
unit u and every set A of the others at once, what u still costs once A is written: usable entropy

    c(u | A) = H_V(u | S, A)                                (Xu et al., 2020, arXiv 2002.10689)

on held-out examples, as the mean over checkpoints of the training, which is the area under the
learning curve: what is learnt early costs little. The cost of an order is

    cost(order) = [ sum over units u of c(u | units before u)^P ]^(1/P) bits,    P = POWER

**Why not the sum.** By the chain rule the sum of the bits of an ideal model is the same for every
order, so that what is left of it is the model's imperfection. Time to learn is not: it grows faster
than in proportion to the largest step that is to be learnt at once (the leap of Abbe et al., 2023,
arXiv 2302.11055), so that two steps of one bit are less than one of two. P = 1 is the sum and a
very large P the hardest step alone.

**Budget.** Decoders of a width of their own, at most `selection.fit_share` of the run's model FLOPs
for training and asking together. Where that pays for more than STEPS updates, several decoders are
trained from seeds of their own and their costs averaged.

**Ranks.** Examples, up to POOL of them, are gathered once. Decoders are dealt out, each trained by
one rank alone, and costs are added as whole multiples of 2^-40 bits: any number of ranks comes to
the same costs and order, to the last bit.

Up to EXACT units, all sets are asked, along the fewest orders that have them all
(:mod:`pretrain.selection.orders.covering`), and the best order is found by dynamic programming. For
more, orders grow from the front, and the BEAM cheapest beginnings are kept.

Letters: J source columns, U units, V values, E examples asked, C checkpoints.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace

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
from pretrain.selection.estimators.probe import (
    ProbeSettings,
    hold_out,
    own_rows,
    survey,
)
from pretrain.selection.orders.cheapest import GRID, cheapest_order, order_cost
from pretrain.selection.orders.covering import covering_orders
from pretrain.selection.orders.decoder import LearnedSettings, forward_flops, seeded, update
from pretrain.selection.orders.strategies import Order
from pretrain.selection.table.collectives import add_up, world

POWER = 2
STEPS, FEWEST_STEPS = 3200, 200
"""Updates of a decoder: as many as the budget pays for between these."""
DECODERS = 4
"""At most."""
CHECKPOINTS = 8
SHAPE = LearnedSettings(hidden_size=32, layers=2, heads=4, batch=32, learning_rate=4e-3)
POOL = 1 << 16
ASKED, FEWEST_ASKED = 512, 16
"""Held-out examples of which each set is asked: as many as a quarter of the budget pays for."""
EXACT, BEAM = 10, 4
AT_ONCE = 1024
"""Sequences scored in one forward pass."""

Ask = Callable[[np.ndarray], np.ndarray]
"""[orders, L] beginnings of orders -> [orders, L] bits that each of their units costs."""


@dataclass(frozen=True)
class Plan:
    """What a budget pays for.

    Attributes:
        decoders: trained from seeds of their own.
        steps: updates of each.
        asked: held-out examples of which each set of units is asked, at each checkpoint.
        flops: model FLOPs of all of it, at most the budget.
    """

    decoders: int
    steps: int
    asked: int
    flops: int


class AnyOrder(OrderEstimator):
    """Estimator `any_order`."""

    measured = "bits that each unit costs a small decoder at its place"
    most_units = 64
    fewest_examples = FEWEST_EXAMPLES

    def find(
        self, sample: Sample, group: dist.ProcessGroup | None = None, progress: Steps | None = None
    ) -> Finding:
        """See the module."""
        settings = self.settings
        shape = sample.source.shape[1], sample.units, sample.vocabulary
        plan = make_plan(*shape, int(settings.fit_share * sample.run_flops))
        return find_order(sample, plan, settings.seed, group, progress)


def make_plan(columns: int, units: int, vocabulary: int, budget: int) -> Plan:
    """The most decoders and updates for at most `budget` FLOPs.

    Args:
        columns: J. units: U. vocabulary: V.

    Raises:
        ValueError: it pays for fewer than 200 updates.
    """
    sequence = forward_flops(columns, units, vocabulary, SHAPE)
    update = 3 * SHAPE.batch * sequence
    for decoders in range(DECODERS, 0, -1):
        example = decoders * CHECKPOINTS * _sequences(units) * sequence
        spare = min(budget // 4, budget - FEWEST_STEPS * decoders * update)
        asked = min(ASKED, max(FEWEST_ASKED, spare // example))
        steps = min(STEPS, (budget - asked * example) // (decoders * update))
        if steps >= (STEPS if decoders > 1 else FEWEST_STEPS):
            return Plan(decoders, steps, asked, decoders * steps * update + asked * example)
    needed = FEWEST_STEPS * update + FEWEST_ASKED * example
    raise ValueError(
        f"{budget / 1e9:,.1f} GFLOP of selection.fit_share do not pay for a decoder of {units} "
        f"units, expected at least {needed / 1e9:,.1f}; raise selection.fit_share or "
        "training.steps, or use an estimator that counts"
    )


def _sequences(units: int) -> int:
    """Sequences that are asked of each example."""
    if units <= EXACT:
        return units * math.comb(units - 1, (units - 1) // 2)
    return BEAM * units * (units + 1) // 2


def find_order(
    sample: Sample,
    plan: Plan,
    seed: int = 0,
    group: dist.ProcessGroup | None = None,
    progress: Steps | None = None,
) -> Finding:
    """The order of the lowest cost; every rank of `group` calls it.

    Args:
        sample: this rank's examples.
        plan: what is trained and asked.
        seed: of the examples, initial weights, batches and orders.
        group, progress: see :class:`OrderEstimator`.

    Raises:
        ValueError: a value is out of range, sources and targets differ in number, or all ranks
            together hold fewer than 100 examples.
        UserError: another rank gave up or died.
    """
    started = time.perf_counter()
    examples = survey(sample.source, sample.target, sample.vocabulary, group)
    pool = np.random.default_rng(seed).permutation(examples)[:POOL]
    tokens = _gather(sample, pool, group)
    rank, ranks = world(group)
    with one_thread():
        decoders = [
            _Member(sample, tokens, replace(SHAPE, seed=seed * DECODERS + member), plan)
            for member in range(rank, plan.decoders, ranks)
        ]
        for number in range(1, CHECKPOINTS + 1):
            for decoder in decoders:
                decoder.train(plan.steps * number // CHECKPOINTS)
            add_up(np.zeros(1, np.int64), group)  # a rank that died is noticed here
            if progress:
                progress(number, CHECKPOINTS)

        def ask(orders: np.ndarray) -> np.ndarray:
            whole = np.zeros(orders.shape, dtype=np.int64)
            for decoder in decoders:
                whole += np.rint(decoder.ask(orders) * GRID).astype(np.int64)
            return np.asarray(add_up(whole, group) / (GRID * plan.decoders))

        order, cost, bits = best(ask, sample.units)
    return Finding(
        order,
        cost,
        len(examples),
        time.perf_counter() - started,
        bits,
        flops=plan.flops,
    )


def best(
    ask: Ask, units: int, exact: int = EXACT, beam: int = BEAM
) -> tuple[Order, Callable[[Order], float], tuple[float, ...]]:
    """The order of the lowest cost, what any order costs, and the bits of each unit in that order.

    Args:
        ask: what units cost along orders.
        units: of a target.
        exact: units up to which all sets are asked.
        beam: beginnings that are kept beyond.
    """
    if units <= exact:
        costs = set_costs(ask, units)
        order = cheapest_order(costs**POWER)

        def cost(order: Order) -> float:
            return float(order_cost(costs**POWER, order) ** (1 / POWER))

        along = [costs[u, sum(1 << v for v in order[:i])] for i, u in enumerate(order)]
    else:

        def cost(order: Order) -> float:
            return float((ask(np.array([order]))[0] ** POWER).sum() ** (1 / POWER))

        order = grown_order(ask, units, beam)
        along = ask(np.array([order]))[0].tolist()
    bits = dict(zip(order, along, strict=True))
    return order, cost, tuple(float(bits[unit]) for unit in range(units))


def set_costs(ask: Ask, units: int) -> np.ndarray:
    """[U, 2^U] bits of each unit after each set of the others, bit b of a set's number being unit
    b; 0 where the set has the unit itself. A set that several orders have is their mean."""
    orders = covering_orders(units)
    bits = ask(orders)
    sets = (1 << orders).cumsum(axis=1) - (1 << orders)
    total, times = np.zeros((2, units, 1 << units))
    np.add.at(total, (orders, sets), bits)
    np.add.at(times, (orders, sets), 1.0)
    return np.asarray(total / np.maximum(times, 1.0))


def grown_order(ask: Ask, units: int, beam: int) -> Order:
    """The cheapest order found by beam search: of beginnings with the same units the cheapest, and
    of all of a length the `beam` cheapest are grown by each unit."""
    beginnings: list[Order] = [()]
    for _ in range(units):
        grown = np.array(
            [(*order, u) for order in beginnings for u in range(units) if u not in order]
        )
        costs = (ask(grown) ** POWER).sum(axis=1)
        cheapest: dict[frozenset[int], Order] = {}
        for row in np.argsort(costs, kind="stable"):
            order = tuple(grown[row].tolist())
            cheapest.setdefault(frozenset(order), order)
        beginnings = list(cheapest.values())[:beam]
    return beginnings[0]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: matrices are tiny, and products on several differ in the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _gather(sample: Sample, pool: np.ndarray, group: dist.ProcessGroup | None) -> np.ndarray:
    """[pool, J + U] those examples, from whichever ranks have them."""
    rank, ranks = world(group)
    tokens = np.zeros((len(pool), sample.source.shape[1] + sample.units), dtype=np.int64)
    rows = own_rows(pool, group)
    own = np.concatenate([sample.source[rows], sample.target[rows]], axis=1)
    tokens[pool % ranks == rank] = own
    return add_up(tokens, group)


class _Member:
    """One decoder, with copies of its weights at the checkpoints."""

    def __init__(
        self, sample: Sample, tokens: np.ndarray, settings: LearnedSettings, plan: Plan
    ) -> None:
        columns = sample.source.shape[1]
        held_out, self.fitted = hold_out(
            np.arange(len(tokens)), ProbeSettings(held_out=settings.held_out, seed=settings.seed)
        )
        self.asked = held_out[: plan.asked]
        self.source = torch.from_numpy(tokens[:, :columns])
        self.target = torch.from_numpy(tokens[:, columns:])
        self.random = np.random.default_rng(settings.seed)
        self.settings, self.steps = settings, 0
        self.decoder, self.optimizer = seeded(columns, sample.units, sample.vocabulary, settings)
        self.checkpoints: list[dict[str, torch.Tensor]] = []

    def train(self, until: int) -> None:
        """Updates up to that number, then a checkpoint."""
        settings, units = self.settings, self.target.shape[1]
        while self.steps < until:
            self.steps += 1
            batch = self.random.choice(self.fitted, settings.batch)
            orders = np.tile(np.arange(units), (settings.batch, 1))
            drawn = torch.from_numpy(self.random.permuted(orders, axis=1))
            self.optimizer.zero_grad()
            self.decoder(self.source[batch], self.target[batch], drawn).mean().backward()
            update(self.optimizer, settings, self.steps)
        self.checkpoints.append(deepcopy(self.decoder.state_dict()))

    @torch.no_grad()
    def ask(self, orders: np.ndarray) -> np.ndarray:
        """[orders, L] bits of each unit along orders, the mean of checkpoints and examples."""
        source, target = self.source[self.asked], self.target[self.asked]
        bits = np.zeros(orders.shape)
        many = max(1, AT_ONCE // len(self.asked))
        for weights in self.checkpoints:
            self.decoder.load_state_dict(weights)
            for start in range(0, len(orders), many):
                some = torch.from_numpy(orders[start : start + many])
                nats = self.decoder(
                    source.repeat(len(some), 1),
                    target.repeat(len(some), 1),
                    some.repeat_interleave(len(source), dim=0),
                )
                means = nats.double().view(len(some), len(source), -1).mean(dim=1)
                bits[start : start + len(some)] += means.numpy()
        return np.asarray(bits / (len(self.checkpoints) * math.log(2.0)))
