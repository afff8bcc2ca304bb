from functools import cache
from itertools import combinations, permutations

import numpy as np
import pytest
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.config import load_config
from pretrain.errors import ConfigError
from pretrain.planning import make_plan
from pretrain.selection.estimators.k_local import k_local_order
from pretrain.tasks.arithmetic.config import ArithmeticData
from pretrain.tasks.arithmetic.data import Arithmetic
from pretrain.testing.processes import run_gang


def entropy(tokens, chosen, corrected=False):
    times = np.unique(tokens[:, list(chosen)], axis=0, return_counts=True)[1]
    p, n = times / times.sum(), len(tokens)
    bits = float(-(p * np.log2(p)).sum())
    return bits + ((len(times) - 1) / (2 * n * np.log(2)) if corrected else 0.0)


def others_like(tokens, chosen):
    """[n] how many other examples have the same values."""
    _, where, times = np.unique(
        tokens[:, list(chosen)], axis=0, return_inverse=True, return_counts=True
    )
    return times[where.ravel()] - 1


def information(tokens, chosen, unit, correction):
    if correction == "leave_one_out":
        values = len(np.unique(tokens[:, unit]))
        right = others_like(tokens, [*chosen, unit]) + 0.5
        left = np.log2(right / (others_like(tokens, chosen) + 0.5 * values))
        return entropy(tokens, [unit]) + left.mean()
    corrected = correction == "miller_madow"
    parts = (chosen, [unit], [*chosen, unit])
    a, u, both = (entropy(tokens, part, corrected) for part in parts)
    return a + u - both


def missing(source, target, order, k, correction="none"):
    """R_k as it is defined."""
    tokens = np.concatenate([source, target], axis=1)
    known, bits = list(range(source.shape[1])), 0.0
    for unit in (source.shape[1] + u for u in order):
        told = [
            information(tokens, chosen, unit, correction)
            for size in range(1, k + 1)
            for chosen in combinations(known, size)
        ]
        bits += entropy(tokens, [unit], correction == "miller_madow") - max(0.0, *told)
        known.append(unit)
    return bits


def dependent(seed, n, sources, units, values):
    """Units that depend on sources and on each other, with some noise."""
    rng = np.random.default_rng(seed)
    source = rng.integers(0, values, (n, sources))
    columns = list(source.T)
    for _ in range(units):
        a, b = rng.choice(len(columns), 2, replace=False)
        noise = rng.integers(0, 2, n) * (rng.random(n) < 0.2)
        columns.append((columns[a] + columns[b] + noise) % values)
    target = np.stack(columns[sources:], axis=1)[:, rng.permutation(units)]
    return source, target


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(20, 200), st.integers(2, 3), st.integers(1, 3),
    st.sampled_from([2, 3, 6]), st.integers(1, 4),
    st.sampled_from(["none", "miller_madow", "leave_one_out"]),
)  # fmt: skip
def test_missing_bits_are_those_of_the_definition(seed, n, sources, units, values, k, correction):
    source, target = dependent(seed, n, sources, units, values)
    found = k_local_order(source, target, values, k, correction=correction)
    right = {
        order: missing(source, target, order, k, correction) for order in permutations(range(units))
    }
    for order, bits in right.items():
        assert found.missing(order) == pytest.approx(bits, abs=1e-9)
    assert right[found.order] == pytest.approx(min(right.values()), abs=1e-9)
    told = found.entropy.sum() - found.bits.sum()
    assert told == pytest.approx(right[found.order], abs=1e-9)


@cache
def enumerated(operation, digits, second):
    data = Arithmetic(ArithmeticData(operation=operation, digits=digits, digits_second=second))
    every = data.every()
    return k_local_order(every.features, every.target, data.values, 3)


@pytest.mark.parametrize(
    "operation,digits,second,best,among,others",
    [
        ("multiplication", 2, 2, 4.377, "3102 1032 1302",
         {"3210": 4.545, "2130": 4.545, "0123": 4.777, "3021": 4.777}),
        ("multiplication", 3, 2, 7.704, "43210", {"01234": 7.924}),
        ("addition", 3, 3, 1.435, "3210", {"0123": 1.508}),
        ("subtraction", 3, 3, 1.718, "0321 1032 0213 0123", {"3210": 2.810}),
    ],
)  # fmt: skip
def test_bits_missing_in_arithmetic_by_enumeration(operation, digits, second, best, among, others):
    found = enumerated(operation, digits, second)
    least = min(map(found.missing, permutations(range(len(found.order)))))
    assert least == pytest.approx(best, abs=1e-3)
    assert found.missing(found.order) == pytest.approx(least, abs=1e-9)
    for order, bits in {**dict.fromkeys(among.split(), best), **others}.items():
        assert found.missing(tuple(map(int, order))) == pytest.approx(bits, abs=1e-3)


def test_of_equals_the_nearest_to_natural_order_is_taken():
    assert enumerated("subtraction", 3, 3).order == (0, 1, 2, 3)
    assert enumerated("multiplication", 2, 2).order == (1, 0, 3, 2)  # not 3102, not 1302
    # Of two units that tell each other all, both orders are alike; a bit more undoes the tie.
    source = np.zeros((64, 1), int)
    target = np.repeat(np.arange(64)[:, None], 2, axis=1)
    assert k_local_order(source, target, 64, 1).order == (0, 1)


def test_thin_counts_tell_nothing_of_examples_that_are_left_out():
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, 10, (300, 4)), rng.integers(0, 10, (300, 2))
    told = {
        correction: k_local_order(source, target, 10, 3, correction=correction).bits
        for correction in ("none", "miller_madow", "leave_one_out")
    }
    assert told["none"].min() > 2.9  # of 3.3, all of it chance
    assert told["miller_madow"].min() > 2.9
    assert told["leave_one_out"].max() < 0.1
    # What there is to tell is seen all the same.
    target[:, 0] = (source[:, 0] + source[:, 1]) % 10
    found = k_local_order(source, target, 10, 3, correction="leave_one_out")
    assert 0.5 < found.bits[0] < 3.3 > 10 * found.bits[1]


def on_ranks(k):
    dist.init_process_group("gloo")
    try:
        rank, ranks = dist.get_rank(), dist.get_world_size()
        source, target = dependent(5, 3000, 4, 4, 10)
        found = k_local_order(
            source[rank::ranks], target[rank::ranks], 10, k, dist.group.WORLD, "leave_one_out",
            chunk_tokens=1024,
        )  # fmt: skip
        return found.order, found.told.tobytes(), found.entropy.tobytes(), found.bytes_per_rank
    finally:
        dist.destroy_process_group()


@pytest.mark.distributed
def test_bits_and_order_are_the_same_from_one_to_four_ranks():
    source, target = dependent(5, 3000, 4, 4, 10)
    alone = k_local_order(source, target, 10, 3, correction="leave_one_out")
    for ranks in (2, 3, 4):
        for order, told, entropies, held in run_gang(ranks, [(on_ranks, 3)])[0]:
            assert (order, told, entropies) == (
                alone.order, alone.told.tobytes(), alone.entropy.tobytes(),
            )  # fmt: skip
            assert max(held) <= 1.1 * alone.bytes_per_rank[0] / ranks


def config_of(**changes):
    selection = {"strategy": "max_mi", "estimator": "k_local", **changes.pop("selection", {})}
    return load_config(None, {"selection": selection, **changes})


def test_a_run_is_ordered_by_it():
    config = config_of(data={"operation": "multiplication"})
    selection, table = config.data.build(config).fitter.fit_or_load(None, shown=False)
    assert table is None
    assert selection.order == (1, 0, 3, 2)
    assert selection.correction == "none"  # all products, but for the held-out ones
    assert len(selection.bits) == 4
    drawn = config_of(data={"operation": "multiplication", "examples": 1000})
    selection, _ = drawn.data.build(drawn).fitter.fit_or_load(None, shown=False)
    assert selection.correction == "leave_one_out"
    assert selection.examples > 1000
    given = {"correction": "shrinkage"}
    assert config_of(selection=given).selection.correction == "shrinkage"
    assert load_config().selection.correction == "miller_madow"


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"selection": {"k": 5}}, "selection.k"),
        ({"selection": {"strategy": "min_mi"}}, "k_local looks for the best order only"),
        ({"selection": {"table": "t"}}, "selection.table t: estimator k_local has no table"),
        ({"selection": {"refresh_every": 5}}, "refresh_every 5: estimator k_local has no table"),
        ({"selection": {"count_on": "gpu"}}, "count_on gpu: estimator k_local counts on the CPU"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(changes, words):
    with pytest.raises(ConfigError, match=words):
        config_of(**changes)


def test_too_little_memory_and_too_many_units_are_named():
    config = config_of(selection={"memory_gb": 1e-6})
    with pytest.raises(ConfigError, match=r"selection.memory_gb 1e-06: counts of .* take .* bytes"):
        config.data.build(config).fitter.fit(None)
    long = config_of(
        data={"digits": 9, "examples": 100}, model={"sequence_length": 64}, selection={"k": 1}
    )
    said = r"estimator k_local: targets have 18 units, and it orders at most 16"
    with pytest.raises(ConfigError, match=said):
        long.data.build(long).fitter.fit(None)


@pytest.mark.parametrize("ranks", [1, 4])
def test_its_counts_are_priced(ranks):
    plan = make_plan(config_of(), ranks, 16)
    # Sets of 4 of 8 digits, but for the one that is the source's alone.
    assert plan.selector_bytes == 8 * (69 * 10**4 // ranks)
    config = config_of()
    train = config.data.build(config).dataset.train
    held = k_local_order(train.features, train.target, 10).bytes_per_rank
    assert held[0] <= make_plan(config, 1, 16).selector_bytes
