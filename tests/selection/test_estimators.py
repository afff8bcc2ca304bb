import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import mutual_info_score

from pretrain.config import DataConfig
from pretrain.data.arithmetic import Arithmetic
from pretrain.selection.counts import count
from pretrain.selection.estimators import ESTIMATORS, mutual_information
from pretrain.selection.selector import score_units
from pretrain.selection.strategies import order_by_bits

# shared reference values: bits from the most significant digit on
EXACT = {
    ("multiplication", 2, "joint"): [2.71, 3.30, 3.31, 3.03],
    ("multiplication", 2, "pairwise"): [1.19, 0.15, 0.07, 1.35],
    ("multiplication", 2, "operand_pair"): [2.22, 0.47, 0.33, 3.03],
    ("addition", 3, "operand_pair"): [0.90, 2.32, 2.33, 3.32],
}


@pytest.mark.parametrize("case", list(EXACT), ids=lambda case: "-".join(map(str, case)))
@pytest.mark.filterwarnings("error")
def test_exact_values_on_every_pair(case):
    operation, digits, estimator = case
    task = Arithmetic(DataConfig(operation=operation, digits=digits))
    examples = task.every_pair()
    bits, n, _ = score_units(examples.features, examples.target, 10, estimator, "none")
    assert n == 10 ** (2 * digits)
    assert bits.tolist() == pytest.approx(EXACT[case], abs=0.006)


def test_joint_orders_multiplication_tens_hundreds_units_thousands():
    task = Arithmetic(DataConfig())
    examples = task.every_pair()
    bits, _, _ = score_units(examples.features, examples.target, 10, "joint", "none")
    names = [task.unit_names[unit] for unit in order_by_bits(bits.tolist(), 0.005)]
    assert names == ["tens", "hundreds", "units", "thousands"]


def test_joint_of_a_function_of_the_source_is_the_entropy():
    task = Arithmetic(DataConfig(operation="addition"))
    examples = task.every_pair()
    bits, _, _ = score_units(examples.features, examples.target, 10, "joint", "none")
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


@given(tables())
@settings(deadline=None, max_examples=150)
def test_plug_in_equals_scikit_learn(table):
    vocabulary, source, target = table
    bits = mutual_information(count(source, target, [(0,), (1,), (0, 1)], vocabulary))
    columns = [source[:, 0], source[:, 1], source[:, 0] * vocabulary + source[:, 1]]
    for slot, column in enumerate(columns):
        for unit in range(2):
            expected = mutual_info_score(column, target[:, unit]) / math.log(2)
            assert bits[slot, unit] == pytest.approx(expected, abs=1e-9)


def test_miller_madow_removes_most_of_the_bias_of_independent_variables():
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, 10, (2000, 1)), rng.integers(0, 10, (2000, 1))
    counts = count(source, target, [(0,)], 10)
    plain = mutual_information(counts)[0, 0]
    corrected = mutual_information(counts, "miller_madow")[0, 0]
    assert corrected == pytest.approx(plain - 81 / (2 * 2000 * math.log(2)))
    assert abs(corrected) < plain / 3


def test_an_unknown_correction_and_an_empty_table_are_refused():
    some = np.zeros((3, 1), np.int64)
    with pytest.raises(ValueError, match="unknown correction"):
        mutual_information(count(some, some, [(0,)], 2), "jackknife")
    with pytest.raises(ValueError, match="at least one example"):
        mutual_information(count(some[:0], some[:0], [(0,)], 2))


def test_slots_of_estimators():
    assert list(ESTIMATORS["joint"].slots(3)) == [(0, 1, 2)]
    assert list(ESTIMATORS["pairwise"].slots(3)) == [(0,), (1,), (2,)]
    assert list(ESTIMATORS["operand_pair"].slots(3)) == [(0, 1), (0, 2), (1, 2)]
