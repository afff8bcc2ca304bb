import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.selection.table.sharding import SLACK, assign_rows, plan_table, shared_budget

ZIPF = (1e6 / np.arange(1, 8193)).astype(np.int64)


@given(st.lists(st.integers(0, 1000), max_size=200), st.integers(1, 8))
def test_rows_of_one_size_are_dealt_out_evenly_and_deterministically(work, ranks):
    values = np.array(work, dtype=np.int64)
    sizes = np.full(len(values), 80)
    owners = assign_rows(values, sizes, ranks)
    assert np.array_equal(owners, assign_rows(values, sizes, ranks))
    held = np.bincount(owners, minlength=ranks)
    assert held.sum() == len(values)
    assert held.max(initial=0) <= max(-(-len(values) // ranks), 1.1 * len(values) / ranks)


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 64)), min_size=1, max_size=100),
    st.integers(2, 6),
)
def test_no_rank_holds_more_than_its_share_and_one_row(rows, ranks):
    work, sizes = np.array(rows, dtype=np.int64).T
    held = np.bincount(assign_rows(work, sizes, ranks), weights=sizes, minlength=ranks)
    assert held.max() <= SLACK * sizes.sum() / ranks + sizes.max()


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_work_and_bytes_are_balanced_on_a_zipf_distribution(ranks):
    plan = plan_table(ZIPF, 8192, 1 << 30, ranks)
    owners = assign_rows(ZIPF, plan.sizes, ranks)
    for what, bound in ((ZIPF, 1.1), (plan.sizes, 1.1)):
        loads = np.bincount(owners, weights=what)
        assert loads.max() / loads.mean() <= bound


def test_the_first_layout_that_fits_is_taken():
    small = np.full(2896, 10**6)
    assert plan_table(small, 2896, 1 << 30).layout == "dense"
    assert plan_table(ZIPF, 8192, 1 << 30).layout == "sparse"
    sparse = plan_table(ZIPF, 8192, 1 << 30)
    assert sparse.bytes < 8192 * 8192 * 8
    assert plan_table(ZIPF, 8192, sparse.bytes).layout == "sparse"
    top = plan_table(ZIPF, 8192, sparse.bytes // 2)
    assert top.layout == "top_k"
    assert top.bytes <= sparse.bytes // 2
    kept = int(top.kept.sum())
    assert 0 < kept < 8192
    assert top.kept[:kept].all()
    # One more row would not have fitted.
    assert top.bytes + sparse.sizes[kept] > sparse.bytes // 2


def test_bytes_are_those_of_the_cells():
    pairs = np.array([0, 1, 5, 66, 67, 799, 800])
    plan = plan_table(pairs, 100, 1 << 20, layout="sparse")
    assert plan.sizes.tolist() == [0, 12, 60, 66 * 12, 67 * 12, 1200, 800]
    # Where memory is short, what bounds a row best.
    tight = plan_table(pairs, 100, plan.bytes - 1, layout="sparse")
    assert tight.sizes.tolist() == [0, 12, 60, 66 * 12, 800, 800, 800]


def test_ranks_add_to_the_budget_but_for_the_slack():
    assert shared_budget(1000, 1) == 1000
    assert shared_budget(1000, 4) == int(4000 / SLACK)
    alone = plan_table(ZIPF, 8192, 1 << 22)
    eight = plan_table(ZIPF, 8192, 1 << 22, ranks=8)
    assert alone.layout == eight.layout == "top_k"
    assert 7 * alone.bytes < eight.bytes <= 8 / SLACK * (1 << 22)


def test_what_does_not_fit_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"layout dense takes 536,870,912 bytes.*layout auto"):
        plan_table(ZIPF, 8192, 1 << 20, layout="dense")
    with pytest.raises(ValueError, match=r"layout top_k takes .* more ranks"):
        plan_table(ZIPF, 8192, 1 << 20, layout="top_k", top_k=8192)
    with pytest.raises(ValueError, match="not one row of 8,192 columns"):
        plan_table(ZIPF, 8192, 100)
