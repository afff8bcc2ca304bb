"""Orders by what a decoder of every order finds: its search, its budget, and what it learns."""

from itertools import permutations

import numpy as np
import pytest
import torch.distributed as dist

from pretrain.config import load_config
from pretrain.selection.estimators.any_order import (
    POWER,
    AnyOrder,
    Plan,
    best,
    find_order,
    grown_order,
    make_plan,
    set_costs,
)
from pretrain.selection.estimators.order_estimator import Sample
from pretrain.selection.table.collectives import world
from pretrain.testing.processes import run_gang

UNITS = 4


def table(seed=0, units=UNITS):
    """Made-up bits of each unit after each set."""
    return np.random.default_rng(seed).random((units, 1 << units)) * 4


def along(costs, order):
    placed, bits = 0, []
    for unit in order:
        bits.append(costs[unit, placed])
        placed |= 1 << unit
    return bits


def asked(costs):
    """As a decoder answers: bits along beginnings of orders."""
    return lambda orders: np.array([along(costs, order) for order in orders])


def length(bits):
    return sum(b**POWER for b in bits) ** (1 / POWER)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_order_is_that_of_all_orders(seed):
    costs = table(seed)
    order, cost, bits = best(asked(costs), UNITS)
    every = {each: length(along(costs, each)) for each in permutations(range(UNITS))}
    assert every[order] == pytest.approx(min(every.values()))
    for each in every:
        assert cost(each) == pytest.approx(every[each])
    assert [bits[unit] for unit in order] == pytest.approx(along(costs, order))


def test_bits_of_all_sets_are_read_off_few_orders():
    costs = table(1)
    found = set_costs(asked(costs), UNITS)
    for unit in range(UNITS):
        for placed in range(1 << UNITS):
            free = not placed >> unit & 1
            assert found[unit, placed] == pytest.approx(costs[unit, placed] if free else 0.0)


def test_a_beam_that_holds_all_beginnings_finds_the_best_order():
    costs = table(2, units=5)
    every = {each: length(along(costs, each)) for each in permutations(range(5))}
    assert every[grown_order(asked(costs), 5, beam=32)] == pytest.approx(min(every.values()))
    order, cost, _ = best(asked(costs), 5, exact=4, beam=32)
    assert cost(order) == pytest.approx(min(every.values()))


def test_a_plan_takes_no_more_than_its_budget_and_says_what_is_too_little():
    for budget in (1.1e10, 1e11, 6e11, 1e13):
        plan = make_plan(6, 4, 13, int(budget))
        assert plan.flops <= budget
        assert plan.steps >= 200
    assert make_plan(6, 4, 13, int(1e13)).decoders == 4
    with pytest.raises(ValueError, match=r"raise selection\.fit_share"):
        make_plan(6, 4, 13, int(1e8))


def totals(examples=2000):
    """Running totals of three digits modulo 5, the last one first: each is easy after the one
    before it."""
    source = np.random.default_rng(0).integers(0, 5, (examples, 3))
    return source, (source.cumsum(axis=1) % 5)[:, ::-1]


PLAN = Plan(decoders=2, steps=300, asked=64, flops=1)


def found_on(group):
    rank, ranks = world(group)
    source, target = totals()
    sample = Sample(source[rank::ranks], target[rank::ranks], 5, False, 0)
    found = find_order(sample, PLAN, group=group)
    return found.order, found.bits, found.cost((0, 1, 2)), found.examples


def on_ranks():
    """What a rank of several finds."""
    dist.init_process_group("gloo")
    try:
        return found_on(dist.group.WORLD)
    finally:
        dist.destroy_process_group()


@pytest.mark.distributed
def test_any_number_of_ranks_finds_the_same_to_the_last_bit():
    alone = found_on(None)
    assert alone[0][0] == 1
    assert alone[3] == 2000
    for answer in run_gang(3, [(on_ranks,)])[0]:
        assert answer == alone


def test_the_budget_is_a_share_of_the_run():
    source, target = totals(500)
    settings = load_config(None, {"selection": {"estimator": "any_order", "fit_share": 0.5}})
    steps = []
    estimator = AnyOrder(settings.selection)
    found = estimator.find(
        Sample(source, target, 5, False, int(2e10)), None, lambda done, of: steps.append((done, of))
    )
    assert found.flops is not None
    assert found.flops <= 1e10
    assert steps == [(number, 8) for number in range(1, 9)]
    with pytest.raises(ValueError, match=r"selection\.fit_share"):
        estimator.find(Sample(source, target, 5, False, int(1e6)))
