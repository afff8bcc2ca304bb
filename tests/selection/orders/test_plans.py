import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.selection.orders.plans import (
    Plans,
    best_candidates,
    shares_of,
    uniform_numbers,
)
from pretrain.selection.orders.strategies import choose_candidates

SCORED = st.lists(
    st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 0.004, 1.0, 2.5]), st.integers(0, 3)),
             max_size=6),
    min_size=1, max_size=5,
)  # fmt: skip


def arrays(examples):
    flat = [pair for example in examples for pair in example]
    scores = np.array([score for score, _ in flat], dtype=np.float64)
    kinds = np.array([kind for _, kind in flat], dtype=np.int64)
    return scores, kinds, np.cumsum([0, *map(len, examples)])


@given(SCORED, st.booleans())
def test_the_best_of_many_is_the_best_of_one(examples, largest):
    scores, kinds, offsets = arrays(examples)
    found = best_candidates(scores, kinds, offsets, 1, 0.005, largest)
    expected = choose_candidates(scores, offsets, 0.005, largest)
    assert found[:, 0].tolist() == expected.tolist()


@given(SCORED, st.integers(1, 5), st.booleans())
def test_candidates_are_the_best_of_each_kind_that_is_left(examples, most, largest):
    scores, kinds, offsets = arrays(examples)
    found = best_candidates(scores, kinds, offsets, most, 0.005, largest)
    for row, (begin, end) in zip(found, pairwise(offsets), strict=True):
        left, expected = list(range(begin, end)), []
        while left and len(expected) < most:
            signed = [scores[place] if largest else -scores[place] for place in left]
            near = [place for place, score in zip(left, signed, strict=True)
                    if score >= max(signed) - 0.005]  # fmt: skip
            expected.append(near[-1])
            left = [place for place in left if kinds[place] != kinds[near[-1]]]
        assert row.tolist() == expected + [-1] * (most - len(expected))


def test_shares_of_known_bits():
    bits = np.array([[3.0, 2.0, -math.inf], [-math.inf] * 3, [700.0, 0.0, 0.0]])
    assert shares_of(bits, None).tolist() == [[0.5, 0.5, 0], [0, 0, 0], [1 / 3] * 3]
    assert shares_of(bits, 1.0)[0] == pytest.approx([2 / 3, 1 / 3, 0])
    assert shares_of(bits, 0.5)[0] == pytest.approx([4 / 5, 1 / 5, 0])
    assert shares_of(bits, 1.0)[2].tolist() == [1.0, 2.0**-700, 2.0**-700]


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, 3.0]), max_size=5), min_size=1, max_size=5))
def test_plans_are_those_that_have_a_share(weights):
    offsets = np.cumsum([0, *map(len, weights)])
    shares = np.array([w / max(1.0, sum(row)) for row in weights for w in row])
    plans = Plans.of(shares, offsets)
    for example, row in enumerate(weights):
        there = [place for place, weight in enumerate(row) if weight]
        count = plans.counts[example]
        assert plans.places[example, :count].tolist() == there
        assert (plans.places[example, count:] == -1).all()
        expected = [row[place] / sum(row) for place in there]
        assert plans.shares[example, :count] == pytest.approx(expected)
        entropy = -sum(share * math.log(share) for share in expected)
        assert plans.entropy[example] == pytest.approx(entropy)
        for number, column in ((0.0, 0), (np.nextafter(1.0, 0.0), max(0, count - 1))):
            drawn = plans.drawn(np.full(len(weights), number))
            assert drawn[example] == column


def test_plans_are_drawn_as_often_as_their_shares_say():
    plans = Plans(np.array([[0, 2, -1]]), np.array([[0.25, 0.75, 0.0]]))
    numbers = uniform_numbers((5, 0), np.arange(20000), 1)[:, 0]
    drawn = [int(plans.drawn(numbers[k : k + 1])[0]) for k in range(0, 20000, 5)]
    assert np.mean(drawn) == pytest.approx(0.75, abs=0.03)
    assert plans.at(np.array([1])).tolist() == [2]


def test_numbers_are_a_pure_function_of_key_and_place():
    numbers = uniform_numbers((1, 2), np.arange(50), 2)
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert uniform_numbers((1, 2), np.array([7]), 2).tolist() == numbers[7:8].tolist()
    assert (uniform_numbers((1, 3), np.arange(50), 2) != numbers).any(axis=1).all()
