import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import mutual_info_score

from pretrain.ragged import Documents, Examples, stream_of
from pretrain.selection.estimators.information import (
    ESTIMATORS,
    mutual_information,
    presence_information,
)
from pretrain.selection.orders.strategies import order_by_bits
from pretrain.selection.table.counts import Pairs, count_pairs, window
from pretrain.selection.table.positions import count_positions
from pretrain.tasks.arithmetic.config import ArithmeticData
from pretrain.tasks.arithmetic.data import Arithmetic
from tests.selection.brute_force import brute_force

# shared reference values: bits from the most significant digit on
EXACT = {
    ("multiplication", 2, "joint"): [2.71, 3.30, 3.31, 3.03],
    ("multiplication", 2, "pairwise"): [1.19, 0.15, 0.07, 1.35],
    ("multiplication", 2, "operand_pair"): [2.22, 0.47, 0.33, 3.03],
    ("addition", 3, "operand_pair"): [0.90, 2.32, 2.33, 3.32],
}


def score_units(examples, estimator: str) -> list[float]:
    """Uncorrected bits of every unit."""
    chosen = ESTIMATORS[estimator]
    source, target = examples.features, examples.target
    counts = position_counts(source, target, chosen.slots(source.shape[1]), 10)
    return chosen.combine(mutual_information(counts)).tolist()


@pytest.mark.parametrize("case", list(EXACT), ids=lambda case: "-".join(map(str, case)))
@pytest.mark.filterwarnings("error")
def test_exact_values_on_every_pair(case):
    operation, digits, estimator = case
    task = Arithmetic(ArithmeticData(operation=operation, digits=digits))
    examples = task.every_pair()
    assert len(examples) == 10 ** (2 * digits)
    bits = score_units(examples, estimator)
    assert bits == pytest.approx(EXACT[case], abs=0.006)


def test_joint_orders_multiplication_tens_hundreds_units_thousands():
    task = Arithmetic(ArithmeticData())
    examples = task.every_pair()
    bits = score_units(examples, "joint")
    names = [task.unit_names[unit] for unit in order_by_bits(bits, 0.005)]
    assert names == ["tens", "hundreds", "units", "thousands"]


def test_joint_of_a_function_of_the_source_is_the_entropy():
    task = Arithmetic(ArithmeticData(operation="addition"))
    examples = task.every_pair()
    bits = score_units(examples, "joint")
    for unit in range(examples.target.shape[1]):
        p = np.bincount(examples.target[:, unit]) / len(examples)
        assert bits[unit] == pytest.approx(-sum(x * math.log2(x) for x in p if x), abs=1e-9)


@st.composite
def tables(draw):
    vocabulary = draw(st.integers(1, 5))
    n = draw(st.integers(1, 60))
    values = st.integers(0, vocabulary - 1)
    return (
        vocabulary,
        draw(arrays(np.int64, (n, 2), elements=values)),
        draw(arrays(np.int64, (n, 2), elements=values)),
    )


def position_counts(source, target, slots, vocabulary, layout="auto"):
    return count_positions(source, target, slots, vocabulary, layout=layout).counts


@given(tables(), st.sampled_from(["dense", "sparse"]))
@settings(max_examples=150)
def test_plug_in_equals_scikit_learn(table, layout):
    vocabulary, source, target = table
    slots = [(0,), (1,), (0, 1)]
    bits = mutual_information(position_counts(source, target, slots, vocabulary, layout))
    columns = [source[:, 0], source[:, 1], source[:, 0] * vocabulary + source[:, 1]]
    for slot, column in enumerate(columns):
        for unit in range(2):
            expected = mutual_info_score(column, target[:, unit]) / math.log(2)
            assert bits[slot, unit] == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.lists(st.integers(0, 9), max_size=20), min_size=1, max_size=6))
@settings(max_examples=100)
def test_information_of_a_window_equals_scikit_learn(documents):
    examples = Examples(Documents.of(documents))
    counts = count_pairs(stream_of(examples, 30), 10, 10, window(3, "left"))
    pairs = list(brute_force(examples, window(3, "left")).elements())
    if not pairs:
        with pytest.raises(ValueError, match="table is empty"):
            mutual_information(counts)
        return
    features, units = zip(*pairs, strict=True)
    expected = mutual_info_score(features, units) / math.log(2)
    assert mutual_information(counts)[0, 0] == pytest.approx(expected, abs=1e-9)


def test_miller_madow_removes_most_of_the_bias_of_independent_variables():
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, 10, (2000, 1)), rng.integers(0, 10, (2000, 1))
    counts = position_counts(source, target, [(0,)], 10)
    plain = mutual_information(counts)[0, 0]
    corrected = mutual_information(counts, "miller_madow")[0, 0]
    assert corrected == pytest.approx(plain - 81 / (2 * 2000 * math.log(2)))
    assert abs(corrected) < plain / 3


def shrunk(table: np.ndarray) -> float:
    """MI of the James-Stein estimate of a joint distribution, written out."""
    n, cells = table.sum(), table.size
    p = table / n
    weight = (1 - (p**2).sum()) / ((n - 1) * ((1 / cells - p) ** 2).sum())
    p = min(1.0, weight) / cells + (1 - min(1.0, weight)) * p
    outer = p.sum(axis=1, keepdims=True) * p.sum(axis=0, keepdims=True)
    return float((p * np.log2(p / outer)).sum())


def test_shrinkage_equals_its_definition_and_lowers_the_bias():
    rng = np.random.default_rng(0)
    source = rng.integers(0, 6, (500, 1))
    for noise in (0.0, 0.5, 1.0):
        other = rng.integers(0, 6, (500, 1))
        target = np.where(rng.random((500, 1)) < noise, other, source)
        table = np.zeros((6, 6))
        np.add.at(table, (source[:, 0], target[:, 0]), 1)
        counts = position_counts(source, target, [(0,)], 6)
        bits = mutual_information(counts, "shrinkage")[0, 0]
        assert bits == pytest.approx(shrunk(table), abs=1e-9)
    assert bits < mutual_information(counts)[0, 0] / 3


def test_shrinkage_of_a_source_seen_once_each_knows_nothing():
    source = np.arange(8).reshape(-1, 1)
    counts = position_counts(source, source, [(0,)], 8)
    assert mutual_information(counts)[0, 0] == pytest.approx(3.0)
    assert mutual_information(counts, "shrinkage")[0, 0] == pytest.approx(0.0, abs=1e-12)


def test_counts_beyond_the_lookup_enter_alike():
    # One cell of 70,000: above what is counted in an array.
    source = np.concatenate([np.zeros(70_000, np.int64), np.ones(30_000, np.int64)])[:, None]
    bits = mutual_information(position_counts(source, source, [(0,)], 2))
    assert bits[0, 0] == pytest.approx(-0.7 * math.log2(0.7) - 0.3 * math.log2(0.3), abs=1e-12)


def test_tables_that_have_no_mutual_information_are_refused():
    some = np.zeros((3, 1), np.int64)
    with pytest.raises(ValueError, match="unknown correction"):
        mutual_information(position_counts(some, some, [(0,)], 2), "jackknife")
    with pytest.raises(ValueError, match="at least one example"):
        mutual_information(position_counts(some[:0], some[:0], [(0,)], 2))
    words = stream_of(Examples(Documents.of([[0, 1]]), Documents.of([[0]])), 10)
    with pytest.raises(ValueError, match="several features"):
        mutual_information(count_pairs(words, 2, 1, Pairs(presence=True)))
    text = stream_of(Examples(Documents.of([[0, 1, 2, 0]])), 10)
    with pytest.raises(ValueError, match="every row"):
        mutual_information(count_pairs(text, 3, 3, window(1), layout="top_k", top_k=1))


@given(
    st.lists(
        st.tuples(st.sets(st.integers(0, 7), max_size=5), st.sets(st.integers(0, 4), max_size=3)),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from(["dense", "sparse"]),
    st.integers(1, 10),
)
@settings(max_examples=100)
def test_label_information_equals_scikit_learn(documents, layout, top):
    words, labels = (
        Documents.of([sorted(part) for part in side]) for side in zip(*documents, strict=True)
    )
    counts = count_pairs(
        stream_of(Examples(words, labels), 20), 8, 5, Pairs(presence=True), layout=layout
    )
    each = np.array(
        [
            [
                mutual_info_score([w in d[0] for d in documents], [u in d[1] for d in documents])
                for u in range(5)
            ]
            for w in range(8)
        ]
    ) / math.log(2)
    assert presence_information(counts) == pytest.approx(each.sum(axis=0), abs=1e-9)
    best = np.sort(each, axis=0)[::-1][:top].sum(axis=0) / top
    assert presence_information(counts, "top", top) == pytest.approx(best, abs=1e-9)


def test_label_information_needs_presence_and_all_rows():
    examples = stream_of(Examples(Documents.of([[0, 1]]), Documents.of([[0]])), 10)
    with pytest.raises(ValueError, match="presence counts"):
        presence_information(count_pairs(examples, 2, 1, Pairs()))
    presence = Pairs(presence=True)
    with pytest.raises(ValueError, match="every row"):
        presence_information(count_pairs(examples, 2, 1, presence, layout="top_k", top_k=1))
    with pytest.raises(ValueError, match="use sum, or top"):
        presence_information(count_pairs(examples, 2, 1, presence), "top", 0)
    with pytest.raises(ValueError, match="at least one document"):
        presence_information(count_pairs(lambda: [], 2, 1, presence))


def test_slots_of_estimators():
    assert list(ESTIMATORS["joint"].slots(3)) == [(0, 1, 2)]
    assert list(ESTIMATORS["pairwise"].slots(3)) == [(0,), (1,), (2,)]
    assert list(ESTIMATORS["operand_pair"].slots(3)) == [(0, 1), (0, 2), (1, 2)]
