from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.selection.estimators.chain import Chain, best_order, chain_order, fit, gain
from pretrain.selection.orders.decoder import LearnedSettings
from pretrain.tasks.arithmetic.config import ArithmeticData
from pretrain.tasks.arithmetic.data import Arithmetic
from pretrain.testing.processes import run_gang

K = 5
PLACE = (1, 2, 0)
SMALL = LearnedSettings(hidden_size=32, steps=300, scored=512)
SHORT = LearnedSettings(hidden_size=16, steps=40, batch=32, scored=64)


def running_totals(n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Three digits, and the last digits of their running totals, mixed up.

    A long total is hard on its own, and easy once the one before it is known.
    """
    source = np.random.default_rng(0).integers(0, K, (n, 3))
    return source, (source.cumsum(axis=1) % K)[:, PLACE]


matrices = st.integers(1, 5).flatmap(
    lambda units: st.lists(st.integers(-8, 8), min_size=units * units, max_size=units * units).map(
        lambda values: np.array(values, dtype=float).reshape(units, units)
    )
)


@given(matrices, st.integers(0, 10))
def test_the_best_order_is_that_of_a_search_through_all(told, tie_bits):
    gains = {order: gain(told, order) for order in permutations(range(len(told)))}
    best = max(gains.values())
    tied = [order for order, bits in gains.items() if bits >= best - tie_bits]
    assert best_order(told, tie_bits) == max(tied)


@given(matrices, st.randoms())
def test_only_the_antisymmetric_part_decides(told, random):
    symmetric = np.array([[random.randrange(9) for _ in told] for _ in told], dtype=float)
    assert best_order(told + symmetric + symmetric.T) == best_order(told)


def test_twelve_units_are_ordered():
    order = tuple(np.random.default_rng(0).permutation(12).tolist())
    told = np.zeros((12, 12))
    for before, after in pairwise(order):
        told[before, after] = 1.0
    assert best_order(told) == order


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_costs_that_are_sums_are_fitted_exactly(seed):
    units, random = 4, np.random.default_rng(seed)
    alone, told = random.normal(size=units), random.normal(size=(units, units))
    np.fill_diagonal(told, 0.0)
    moments = np.zeros((units, units + 1, units + 2))
    for order in permutations(range(units)):
        for i, unit in enumerate(order):
            before = np.isin(np.arange(units), order[:i])
            x = np.array([1.0, *before, alone[unit] - told[before, unit].sum()])
            moments[unit] += np.outer(x[:-1], x)
    found = fit(moments)
    assert found[0] == pytest.approx(alone)
    assert found[1] == pytest.approx(told)
    chain = Chain((), *found, examples=0, steps=0, sequences=0, flops=0, seconds=0.0)
    assert chain.bits((2, 0, 1, 3)) == pytest.approx(
        alone.sum() - told[2, [0, 1, 3]].sum() - told[0, [1, 3]].sum() - told[1, 3]
    )


def test_a_total_goes_after_the_one_that_it_grows_from():
    chain = chain_order(*running_totals(), K, settings=SMALL)
    second, third, first = range(3)
    assert chain.order.index(second) < chain.order.index(third)
    assert chain.alone[first] < chain.alone[third]
    assert chain.told[second, third] - chain.told[third, second] > 0.05
    assert chain.bits(chain.order) < chain.bits((third, second, first)) - 0.05


def test_multiplication_has_the_thousands_after_the_hundreds():
    task = Arithmetic(ArithmeticData(operation="multiplication", digits=2))
    chain = chain_order(task.train.features, task.train.target, task.values)
    thousands, hundreds, tens, units = range(4)
    one_sided = chain.told - chain.told.T
    assert one_sided.argmax() == hundreds * 4 + thousands
    assert one_sided[hundreds, thousands] > 0.1
    assert abs(one_sided[units]).max() < 0.1
    assert chain.order == (units, tens, hundreds, thousands)
    assert chain.bits(chain.order) < chain.bits((thousands, hundreds, tens, units)) - 0.1


def test_units_that_tell_nothing_of_each_other_are_tied():
    source = np.random.default_rng(0).integers(0, 4, (2000, 3))
    few = LearnedSettings(hidden_size=32, steps=120, scored=512)
    chain = chain_order(source, source, 4, settings=few)
    assert abs(chain.told).max() < 0.1
    assert chain.order == (2, 1, 0)


def test_repeats_to_the_last_bit_and_leaves_torch_as_it_was():
    source, target = running_totals(300)
    state = torch.get_rng_state()
    steps: list[tuple[int, int]] = []
    first = chain_order(
        source, target, K, settings=SHORT, progress=lambda done, of: steps.append((done, of))
    )
    again = chain_order(source, target, K, settings=SHORT)
    assert first.told.tobytes() == again.told.tobytes()
    assert first.order == again.order
    assert torch.equal(torch.get_rng_state(), state)
    assert steps == [(step, 40) for step in range(1, 41)]
    assert (first.steps, first.sequences) == (40, 40 * 32 + 20 * 64)


def on_two_ranks(n: int) -> tuple[bytes, bytes, str]:
    """What is told with examples dealt out, with all on the first rank, and an error."""
    source, target = running_totals(n)
    dist.init_process_group("gloo")
    try:
        rank, group = dist.get_rank(), dist.group.WORLD
        dealt = chain_order(source[rank::2], target[rank::2], K, group, SHORT)
        mine = slice(n) if rank == 0 else slice(0)
        lopsided = chain_order(source[mine], target[mine], K, group, SHORT)
        with pytest.raises(ValueError, match="source") as caught:
            chain_order(source + rank, target, K, group, SHORT)
    finally:
        dist.destroy_process_group()
    return dealt.told.tobytes(), lopsided.told.tobytes(), str(caught.value)


@pytest.mark.distributed
def test_two_ranks_agree_with_each_other_to_the_last_bit_and_with_one_up_to_rounding():
    alone = chain_order(*running_totals(501), K, settings=SHORT)
    [[first, second]] = run_gang(2, [(on_two_ranks, 501)])
    assert first == second
    dealt, lopsided, error = first
    assert np.frombuffer(dealt).reshape(3, 3) == pytest.approx(alone.told, abs=1e-3)
    assert np.isfinite(np.frombuffer(lopsided)).all()
    assert error.startswith("source of rank 1 holds 5, expected 0 to 4; set vocabulary")


def test_what_cannot_be_ordered_is_refused():
    digits = np.zeros((200, 17), dtype=np.int64)
    with pytest.raises(ValueError, match=r"17 units was asked for, expected at most 16.*learn_ord"):
        chain_order(digits, digits, 2)
    with pytest.raises(ValueError, match=r"tie_bits is -1\.0; use 0 or more"):
        best_order(np.zeros((2, 2)), -1.0)
    with pytest.raises(ValueError, match="at least 100 examples"):
        chain_order(digits[:99, :2], digits[:99, :2], 2)
