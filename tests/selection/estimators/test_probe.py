import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
from sklearn.metrics import mutual_info_score

from pretrain.selection.estimators.probe import ProbeSettings, gain, v_information
from pretrain.testing.processes import run_gang

K = 8
SMALL = ProbeSettings(hidden_size=64, steps=600, batch=128)
SHORT = ProbeSettings(hidden_size=32, steps=150, batch=64)


def examples(n: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Units: a copy, an exclusive or, a rare yes or no, and one that the source does not know."""
    rng = np.random.default_rng(0)
    source = rng.integers(0, K, (n, 3))
    a, b, _ = source.T
    return source, np.stack([a, a ^ b, a == 0, rng.integers(0, K, n)], axis=1).astype(np.int64)


@pytest.fixture(scope="module")
def bits() -> np.ndarray:
    return v_information(*examples(), K, settings=SMALL)


def test_a_copied_column_is_worth_its_entropy(bits):
    assert bits.dtype == np.float64
    assert bits[0] == pytest.approx(math.log2(K), abs=0.05)
    rare = 1 / K
    entropy = -rare * math.log2(rare) - (1 - rare) * math.log2(1 - rare)
    assert bits[2] == pytest.approx(entropy, abs=0.1)


def test_what_no_single_column_knows_is_found(bits):
    source, target = examples()
    for column in source.T:
        assert mutual_info_score(column, target[:, 1]) / math.log(2) < 0.02
    assert bits[1] == pytest.approx(math.log2(K), abs=0.1)


def test_an_independent_unit_is_worth_nothing_however_long_the_probe_trains(bits):
    assert abs(bits[3]) < 0.05


def test_learning_by_heart_is_worth_nothing():
    source, target = examples(200)  # few enough to be known one by one
    found = v_information(source, target[:, 3:], K, settings=ProbeSettings(64, 300, 128))
    assert abs(found[0]) < 0.05


def test_each_half_judges_the_choice_of_the_other_and_nothing_is_clipped():
    even, odd = [0.0, 3.0, -1.0], [0.0, -2.0, 8.0]
    sums = np.array([even, odd]).T[:, :, None]
    exact = np.stack([sums, sums**2 / 10], axis=1)  # ten examples each, all alike: no error
    assert gain(exact, [10, 10]).tolist() == [-2.0 - 1.0]
    noisy = exact.copy()
    noisy[1:, 1] = 100.0  # a standard error of about 1 each, against 0.3 and 0.8 at best
    assert gain(noisy, [10, 10]).tolist() == [0.0]


def test_sorted_examples_are_held_out_by_chance():
    digits = np.arange(1000)[:, None] % 10
    found = v_information(digits, digits, 10, settings=SHORT)
    assert found[0] == pytest.approx(math.log2(10), abs=0.05)


def test_repeats_to_the_last_bit_and_leaves_torch_as_it_was():
    source, target = examples(300)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    steps: list[tuple[int, int]] = []
    first = v_information(
        source, target, K, settings=SHORT, progress=lambda done, of: steps.append((done, of))
    )
    torch.manual_seed(1)
    again = v_information(source, target, K, settings=SHORT)
    torch.set_rng_state(state)
    v_information(source, target, K, settings=SHORT)
    assert first.tobytes() == again.tobytes()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert steps == [(step, SHORT.steps) for step in range(1, SHORT.steps + 1)]
    other = v_information(source, target, K, settings=ProbeSettings(32, 150, 64, seed=1))
    assert other.tobytes() != first.tobytes()


def on_two_ranks(n: int) -> tuple[bytes, bytes, str]:
    """Results from examples dealt out to both ranks, from all on the first, and an error."""
    source, target = examples(n)
    dist.init_process_group("gloo")  # a whole topology is not needed, and takes longer
    try:
        rank, group = dist.get_rank(), dist.group.WORLD
        dealt = v_information(source[rank::2], target[rank::2], K, group, SHORT)
        mine = slice(n) if rank == 0 else slice(0)
        lopsided = v_information(source[mine], target[mine], K, group, ProbeSettings(8, 20, 8))
        with pytest.raises(ValueError, match="source") as caught:
            v_information(source + rank, target, K, group, SHORT)
    finally:
        dist.destroy_process_group()
    return dealt.tobytes(), lopsided.tobytes(), str(caught.value)


@pytest.mark.distributed
def test_two_ranks_agree_with_each_other_to_the_last_bit_and_with_one_up_to_rounding():
    alone = v_information(*examples(501), K, settings=SHORT)
    assert alone[0] > 2  # there is something to agree on
    [[first, second]] = run_gang(2, [(on_two_ranks, 501)])
    assert first == second
    dealt, lopsided, error = first
    assert np.frombuffer(dealt) == pytest.approx(alone, abs=1e-3)
    assert np.isfinite(np.frombuffer(lopsided)).all()
    # Both ranks say so, though only one is at fault.
    assert error.startswith("source of rank 1 holds 8, expected 0 to 7; set vocabulary")


def test_what_cannot_be_probed_is_refused():
    source, target = examples(200)
    with pytest.raises(ValueError, match="target of rank 0 holds 7, expected 0 to 3; set vocab"):
        v_information(source % 4, target, 4)
    with pytest.raises(ValueError, match="source of rank 0 holds -1, expected 0 to 7"):
        v_information(source - 1, target, K)
    with pytest.raises(ValueError, match="holds 199 sources and 200 targets"):
        v_information(source[1:], target, K)
    with pytest.raises(ValueError, match="at least 100 examples over all ranks, found 99; use"):
        v_information(source[:99], target[:99], K)


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"batch": 0}, {"learning_rate": 0.0}, {"held_out": 0.6}], ids=str
)
def test_settings_out_of_bounds_are_refused(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=f"{name} is {value}; use "):
        ProbeSettings(**wrong)
