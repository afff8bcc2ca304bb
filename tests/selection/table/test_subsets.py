from itertools import combinations

import numpy as np
import pytest
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.selection.table import kernels
from pretrain.selection.table.blocks import plan_blocks
from pretrain.selection.table.sharding import BudgetError
from pretrain.selection.table.subsets import count_subsets
from pretrain.testing.processes import run_gang


def wanted(columns, sources, k):
    """Every set that has to be known."""
    for size in range(1, min(k + 1, columns) + 1):
        for chosen in combinations(range(columns), size):
            if size <= k or chosen[-1] >= sources:
                yield chosen


def brute_force(tokens, chosen):
    times = np.unique(tokens[:, list(chosen)], axis=0, return_counts=True)[1]
    return np.unique(times, return_counts=True)


def check(counts, source, target, k):
    tokens = np.concatenate([source, target], axis=1)
    sets = set(wanted(tokens.shape[1], source.shape[1], k))
    assert set(counts.spectra) >= sets
    for chosen in sets:
        for found, right in zip(counts.spectra[chosen], brute_force(tokens, chosen), strict=True):
            np.testing.assert_array_equal(found, right)


def examples(seed, n, sources, units, vocabulary):
    rng = np.random.default_rng(seed)
    # Some columns have few of the values.
    highest = rng.integers(1, vocabulary + 1, sources + units)
    tokens = rng.integers(0, highest, (n, sources + units))
    return tokens[:, :sources], tokens[:, sources:]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(1, 200), st.integers(1, 4), st.integers(1, 4),
    st.sampled_from([2, 5, 15, 300]), st.integers(1, 4),
)  # fmt: skip
def test_every_set_has_the_counts_of_brute_force(seed, n, sources, units, vocabulary, k):
    source, target = examples(seed, n, sources, units, vocabulary)
    check(count_subsets(source, target, vocabulary, k), source, target, k)


def test_wider_blocks_and_blocks_of_what_occurs_have_the_same_counts():
    source, target = examples(0, 20_000, 4, 3, 7)
    source[:, 0] = np.arange(20_000) % 5000  # with three others, too many cells
    counts = count_subsets(source, target, 5000, 3)
    widths = {len(columns) for columns in counts.blocks.columns}
    whole = [counts.blocks.whole(block) for block in range(len(counts.blocks.columns))]
    assert widths == {4, 5}
    assert set(whole) == {True, False}
    check(counts, source, target, 3)


def test_wide_blocks_need_fewer_passes_over_a_million_examples():
    sizes = [10] * 6 + [2, 10, 10, 10]
    blocks = plan_blocks(sizes, 6, 3, 1_000_000, 1 << 30, 1)
    assert len(blocks.columns) <= 60  # 195 sets of four columns have a unit
    for chosen, block in blocks.homes.items():
        assert set(chosen) <= set(blocks.columns[block])


def shared(seed, n, chunk):
    """This rank's share of the examples, and what it gets to know; rank 1 has none, 0 its too."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    source, target = examples(seed, n, 3, 3, 11)
    mine = np.where(np.arange(n) % ranks == 1, 0, np.arange(n) % ranks) == rank
    counts = count_subsets(source[mine], target[mine], 11, 2, dist.group.WORLD, chunk)
    found = [(chosen, *map(np.ndarray.tolist, held)) for chosen, held in counts.spectra.items()]
    return sorted(found), counts.blocks.bytes_per_rank(ranks)


def on_ranks(seed, n, chunk):
    dist.init_process_group("gloo")
    try:
        return shared(seed, n, chunk)
    finally:
        dist.destroy_process_group()


@pytest.mark.distributed
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_any_number_of_ranks_counts_the_same_each_its_share(ranks):
    source, target = examples(3, 2000, 3, 3, 11)
    alone = count_subsets(source, target, 11, 2)
    right = sorted((chosen, *map(np.ndarray.tolist, s)) for chosen, s in alone.spectra.items())
    for found, held in run_gang(ranks, [(on_ranks, 3, 2000, 1024)])[0]:
        assert found == right
        assert sum(held) == alone.blocks.bytes_per_rank(1)[0]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_a_rank_holds_at_most_a_tenth_above_its_share(ranks):
    for sizes, sources, k, n in (([10] * 6 + [2, 10, 10, 10], 6, 3, 10**6), ([10] * 8, 4, 3, 9000)):
        held = plan_blocks(sizes, sources, k, n, 1 << 30, ranks).bytes_per_rank(ranks)
        assert max(held) <= 1.1 * sum(held) / ranks


def test_what_does_not_fit_is_refused_before_anything_is_counted(monkeypatch):
    source, target = examples(0, 500, 3, 2, 11)
    monkeypatch.setattr(kernels, "add_blocks", None)
    with pytest.raises(BudgetError, match=r"sets of columns take .* bytes.*smaller selection.k"):
        count_subsets(source, target, 11, 3, budget=1000)
    with pytest.raises(BudgetError, match=r"do not fit a 64-bit key; use a smaller selection.k"):
        plan_blocks([1 << 40, 1 << 30, 2], 2, 2, 10, 1 << 30, 1)
    with pytest.raises(ValueError, match=r"target holds values from 5 to .*, expected 0 to 4"):
        count_subsets(source % 5, target + 5, 5, 2)
    with pytest.raises(ValueError, match=r"no example to count on any rank"):
        count_subsets(source[:0], target[:0], 11, 2)
