from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pretrain.selection.orders.decoder import Decoder, LearnedSettings, forward_flops
from pretrain.selection.orders.learned import count_rounds, count_updates, learn_order, split
from pretrain.tasks.arithmetic.config import ArithmeticData
from pretrain.tasks.arithmetic.data import Arithmetic
from pretrain.testing.processes import run_gang
from tests.selection.estimators.test_chain import PLACE, K, running_totals

SMALL = LearnedSettings(hidden_size=32, steps=100, alone=120, scored=2048)
SHORT = LearnedSettings(hidden_size=16, steps=20, finalists=4, alone=8, batch=32, scored=200)


@given(st.integers(1, 200))
def test_a_block_is_cut_into_at_most_five_pieces_of_nearly_the_same_length(length):
    pieces = split(range(length))
    lengths = [len(piece) for piece in pieces]
    assert [unit for piece in pieces for unit in piece] == list(range(length))
    assert len(pieces) == min(5, length)
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("units", [1, 2, 3, 5, 6, 8, 12, 26])
def test_long_targets_are_ordered_within_the_budget(units):
    random = np.random.default_rng(units)
    source, target = random.integers(0, 2, (120, 2)), random.integers(0, 2, (120, units))
    rounds = count_rounds(units, 4)
    budget = LearnedSettings(
        8, 1, 2, steps=rounds + 1, finalists=4, alone=6, batch=4, scored=120, held_out=0.5
    )
    found = learn_order(source, target, 2, settings=budget)
    assert sorted(found.order) == list(range(units))
    assert sum(not compared.alone for compared in found.rounds) == rounds
    alone = [len(one.orders[0]) for one in found.rounds if one.alone]
    updates = sum(left * (6 // left) for left in alone)
    assert found.steps == (rounds + 1 + updates if rounds else 0)
    assert found.steps == count_updates(units, budget)
    for compared in found.rounds:
        assert all(len(orders) <= 120 for orders in compared.orders)
        assert all(list(bits) == sorted(bits) for bits in compared.bits)


def test_every_round_drops_half_of_the_orders_and_the_last_best_one_is_returned():
    source, target = running_totals(300)
    found = learn_order(source, target, K, settings=SHORT)
    assert [len(compared.orders[0]) for compared in found.rounds] == [6, 4, 2]
    assert [compared.alone for compared in found.rounds] == [False, True, True]
    assert set(found.rounds[0].orders[0]) == set(permutations(range(3)))
    for before, after in pairwise(found.rounds):
        kept = before.orders[0][: len(after.orders[0])]
        assert set(after.orders[0]) == set(kept)
    assert found.order == found.rounds[-1].orders[0][0]


def test_a_total_is_learned_after_the_one_that_it_grows_from():
    found = learn_order(*running_totals(), K, settings=SMALL)
    totals = [PLACE[unit] for unit in found.order]
    assert totals.index(1) < totals.index(2)


def test_multiplication_is_learned_with_the_hundreds_before_the_thousands():
    task = Arithmetic(ArithmeticData(operation="multiplication", digits=2))
    quick = LearnedSettings(steps=200, finalists=4, alone=200, scored=2400)
    found = learn_order(task.train.features, task.train.target, task.values, settings=quick)
    thousands, hundreds, *_ = range(4)
    assert found.order.index(hundreds) < found.order.index(thousands)
    assert (0, 1, 2, 3) not in found.rounds[-1].orders[0]


def test_a_unit_is_predicted_from_the_source_and_the_units_before_it_alone():
    torch.manual_seed(0)
    decoder = Decoder(2, 4, K, SHORT)
    source, target = torch.randint(K, (8, 2)), torch.randint(K, (8, 4))
    orders = torch.stack([torch.randperm(4) for _ in range(8)])
    nats = decoder(source, target, orders)
    for place in range(4):
        changed = target.clone()
        unit = orders[:, place : place + 1]
        changed.scatter_(1, unit, (target.gather(1, unit) + 1) % K)
        other = decoder(source, changed, orders)
        assert torch.equal(other[:, :place], nats[:, :place])
        assert (other[:, place:] != nats[:, place:]).all()
    changed = (source + 1) % K
    assert (decoder(changed, target, orders) != nats).all()


@pytest.mark.parametrize("shape", [(2, 4, 5), (6, 3, 14)])
def test_flops_are_those_that_torch_counts(shape):
    columns, units, _ = shape
    decoder = Decoder(*shape, SHORT)
    zeros = [torch.zeros(3, width, dtype=torch.int64) for width in (columns, units)]
    # Its other kernels for the CPU are not counted.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        decoder(*zeros, torch.arange(units).expand(3, -1))
    assert counter.get_total_flops() == 3 * forward_flops(*shape, SHORT)


def test_repeats_and_leaves_torch_as_it_was():
    source, target = running_totals(300)
    state = torch.get_rng_state()
    steps: list[tuple[int, int]] = []
    first = learn_order(
        source, target, K, settings=SHORT, progress=lambda done, of: steps.append((done, of))
    )
    again = learn_order(source, target, K, settings=SHORT)
    assert first.rounds == again.rounds
    assert torch.equal(torch.get_rng_state(), state)
    updates = 20 + 2 * 8
    assert steps == [(step, updates) for step in range(1, updates + 1)]
    scored = sum(30 * len(compared.orders[0]) for compared in first.rounds)  # 30 are held out
    assert first.sequences == updates * 32 + scored
    assert first.flops == (3 * updates * 32 + scored) * forward_flops(3, 3, K, SHORT)
    assert first.seconds > 0


def on_two_ranks(n: int) -> tuple[object, ...]:
    """Rounds with examples dealt out, with all on the first rank, and an error."""
    source, target = running_totals(n)
    dist.init_process_group("gloo")
    try:
        rank, group = dist.get_rank(), dist.group.WORLD
        dealt = learn_order(source[rank::2], target[rank::2], K, group, SHORT)
        mine = slice(n) if rank == 0 else slice(0)
        lopsided = learn_order(source[mine], target[mine], K, group, SHORT)
        with pytest.raises(ValueError, match="target") as caught:
            learn_order(source, target + rank, K, group, SHORT)
    finally:
        dist.destroy_process_group()
    return dealt.rounds, dealt.flops, lopsided.rounds, str(caught.value)


@pytest.mark.distributed
def test_two_ranks_agree_with_each_other_to_the_last_bit_and_with_one_up_to_rounding():
    alone = learn_order(*running_totals(501), K, settings=SHORT)
    [[first, second]] = run_gang(2, [(on_two_ranks, 501)])
    assert first == second
    dealt, flops, lopsided, error = first
    assert flops == alone.flops
    assert dealt[0].bits[0] == pytest.approx(alone.rounds[0].bits[0], abs=1e-3)
    assert np.isfinite(lopsided[-1].bits[0]).all()
    assert error.startswith("target of rank 1 holds 5, expected 0 to 4; set vocabulary")


def test_what_cannot_be_learned_is_refused():
    source, target = running_totals(200)
    with pytest.raises(
        ValueError, match="steps is 1, and 5 units take 4 rounds of mixtures; use 4 steps at"
    ):
        learn_order(source, target[:, [0, 1, 2, 0, 1]], K, settings=LearnedSettings(steps=1))
    with pytest.raises(ValueError, match="at least 100 examples"):
        learn_order(source[:99], target[:99], K, settings=SHORT)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"scored": 0}, {"learning_rate": 0.0}, {"held_out": 0.6}],
    ids=str,
)
def test_settings_out_of_bounds_are_refused(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=f"{name} is {value}; use "):
        LearnedSettings(**wrong)


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="hidden_size 30 is not divisible by heads 4; choose"):
        LearnedSettings(hidden_size=30)
