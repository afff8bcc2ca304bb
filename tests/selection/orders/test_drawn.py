"""Orders that are drawn: alike likely or by odds, and a function of seed, step and place alone."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from pretrain.ragged import Documents
from pretrain.selection.orders.drawn import Annealing, DrawnOrders
from pretrain.selection.orders.labels import natural_order

NEAR, TARGET = (2, 0, 3, 1), (3, 2, 1, 0)
DRAWS = 60_000


def shares(orders: np.ndarray) -> dict[tuple[int, ...], float]:
    counted = Counter(map(tuple, orders.tolist()))
    return {order: number / len(orders) for order, number in counted.items()}


def plackett_luce(order, odds: float) -> float:
    """The probability of an order, from its definition."""
    weight = {unit: odds**-rank for rank, unit in enumerate(NEAR)}
    found, left = 1.0, sum(weight.values())
    for unit in order:
        found, left = found * weight[unit] / left, left - weight[unit]
    return found


@pytest.mark.parametrize("odds", [1.0, 1.5, 4.0])
def test_every_order_comes_as_often_as_its_odds_say(odds):
    found = shares(DrawnOrders(4, seed=0, odds=odds).draw(0, np.arange(DRAWS), NEAR, TARGET))

    expected = {order: plackett_luce(order, odds) for order in permutations(range(4))}
    assert sum(expected.values()) == pytest.approx(1.0)
    for order, share in expected.items():
        # Five standard deviations of a share.
        margin = 5 * np.sqrt(share * (1 - share) / DRAWS)
        assert found.get(order, 0.0) == pytest.approx(share, abs=margin), order


@pytest.mark.parametrize("odds", [1.0, 3.0])
def test_sets_are_arranged_by_the_same_odds(odds):
    """Sets of 2 and 3 of 9 units."""
    sets = [[5, 1], [7, 2, 4]]
    near = Documents.of([sets[n % 2] for n in range(20_000)])
    target = Documents.of([sorted(sets[n % 2]) for n in range(20_000)])
    found = DrawnOrders(9, seed=1, odds=odds).arrange(3, np.arange(20_000), near, target)
    assert found.offsets.tolist() == near.offsets.tolist()
    arranged = np.split(found.tokens, found.offsets[1:-1])
    for which, members in enumerate(sets):
        drawn = shares(np.array(arranged[which::2]))
        for order in permutations(members):
            share, left = 1.0, sum(odds**-rank for rank in range(len(members)))
            for unit in order:
                weight = odds ** -members.index(unit)
                share, left = share * weight / left, left - weight
            assert drawn[order] == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / 1e4))


def test_sets_are_annealed_and_a_part_of_them_is_drawn_alike():
    drawn = DrawnOrders(9, seed=1, annealing=Annealing(0, 8))
    near = Documents.of([[5, 1, 8, 0], [], [7, 2, 4], [3]] * 100)
    target = natural_order(near)
    halfway, end = (drawn.arrange(step, np.arange(400), near, target) for step in (4, 8))
    assert end.tokens.tolist() == target.tokens.tolist()
    same = [
        a.tolist() == b.tolist()
        for a, b in zip(
            *(np.split(x.tokens, x.offsets[1:-1]) for x in (halfway, target)), strict=True
        )
    ]
    assert np.mean(same[::4]) == pytest.approx(0.5 + 0.5 / 24, abs=0.25)
    part = drawn.arrange(4, np.arange(200, 400), near.between(200, 400), target.between(200, 400))
    assert part.tokens.tolist() == halfway.between(200, 400).tokens.tolist()


def test_odds_beyond_all_numbers_give_the_order_itself():
    orders = DrawnOrders(40, seed=0, odds=1e300).draw(0, np.arange(9), range(40), range(40))

    assert (orders == np.arange(40)).all()


def test_orders_are_a_function_of_seed_step_and_place_alone():
    drawn = DrawnOrders(6, seed=3, annealing=Annealing(10, 20))
    whole = drawn.draw(15, np.arange(64), range(6), range(6))

    parts = [
        drawn.draw(15, np.arange(64)[part], range(6), range(6))
        for part in (slice(0, 16), slice(16, 64))
    ]
    assert (np.concatenate(parts) == whole).all()
    others = (DrawnOrders(6, seed=4).draw(15, np.arange(64), range(6), range(6)),
              DrawnOrders(6, seed=3).draw(14, np.arange(64), range(6), range(6)))  # fmt: skip
    for other in others:
        assert (other != whole).any(axis=1).mean() > 0.9


def test_steps_and_places_are_independent():
    """Keys that differ by one must not share their random bits."""
    drawn = DrawnOrders(3, seed=0)
    firsts = np.array(
        [drawn.draw(step, np.arange(300), range(3), range(3))[:, 0] for step in range(300)]
    )

    for shifted in (np.roll(firsts, 1, axis=0), np.roll(firsts, 1, axis=1),
                    np.roll(firsts, (1, -1), axis=(0, 1)), firsts.T):  # fmt: skip
        assert (shifted == firsts).mean() == pytest.approx(1 / 3, abs=0.01)


def test_the_share_of_the_target_rises_between_two_steps():
    annealing = Annealing(200, 600)

    assert [annealing.share(step) for step in (0, 200, 300, 400, 599, 600, 900)] == pytest.approx(
        [0, 0, 0.25, 0.5, 0.9975, 1, 1]
    )
    assert Annealing(0, 0).share(0) == 1.0


@pytest.mark.parametrize("step, share", [(0, 1 / 24), (400, 0.5 + 0.5 / 24), (600, 1.0)])
def test_examples_are_annealed_one_by_one(step, share):
    drawn = DrawnOrders(4, seed=0, annealing=Annealing(200, 600))
    found = shares(drawn.draw(step, np.arange(DRAWS), NEAR, TARGET))

    assert found[TARGET] == pytest.approx(share, abs=5 * np.sqrt(0.25 / DRAWS))
