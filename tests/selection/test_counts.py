from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pretrain.selection import counts as module
from pretrain.selection.counts import assign_rows, count, fixed_point, fraction_bits


@st.composite
def corpora(draw):
    vocabulary = draw(st.integers(1, 6))
    n, j, u = draw(st.integers(0, 40)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    values = st.integers(0, vocabulary - 1)
    source = draw(arrays(np.int64, (n, j), elements=values))
    target = draw(arrays(np.int64, (n, u), elements=values))
    slots = draw(
        st.lists(
            st.lists(st.integers(0, j - 1), min_size=1, max_size=j, unique=True).map(tuple),
            min_size=1,
            max_size=3,
        )
    )
    return vocabulary, source, target, slots


@given(corpora(), st.integers(4, 4096))
@settings(deadline=None, max_examples=150)
def test_counts_equal_a_brute_force_count(corpus, chunk_tokens):
    vocabulary, source, target, slots = corpus
    counts = count(source, target, slots, vocabulary, chunk_tokens=chunk_tokens)
    expected = Counter(
        (slot, tuple(source[i, list(columns)]), unit, target[i, unit])
        for i in range(len(source))
        for slot, columns in enumerate(slots)
        for unit in range(target.shape[1])
    )
    size = vocabulary ** max(len(slot) for slot in slots)
    found = Counter()
    for row, unit, value in zip(*np.nonzero(counts.table), strict=True):
        key = int(counts.keys[counts.owned[row]])
        slot, rest = divmod(key, size)
        digits = []
        for _ in slots[slot]:
            rest, digit = divmod(rest, vocabulary)
            digits.append(digit)
        found[slot, tuple(reversed(digits)), unit, value] = counts.table[row, unit, value]
    assert found == expected
    assert counts.examples == len(source)
    for unit in range(target.shape[1]):
        assert (
            counts.columns[unit].tolist()
            == np.bincount(target[:, unit], minlength=vocabulary).tolist()
        )


@given(st.lists(st.integers(0, 1000), max_size=200), st.integers(1, 8))
@settings(deadline=None)
def test_rows_are_dealt_out_evenly_and_deterministically(frequencies, ranks):
    values = np.array(frequencies, dtype=np.int64)
    owners = assign_rows(values, ranks)
    assert np.array_equal(owners, assign_rows(values, ranks))
    held = np.bincount(owners, minlength=ranks)
    assert held.sum() == len(values)
    assert held.max(initial=0) <= max(-(-len(values) // ranks), 1.1 * len(values) / ranks)


def test_load_is_balanced_on_a_zipf_distribution():
    frequencies = (1e6 / np.arange(1, 8193)).astype(np.int64)
    loads = np.bincount(assign_rows(frequencies, 4), weights=frequencies)
    assert loads.max() / loads.mean() < 1.01


def test_values_out_of_range_are_refused():
    good, bad = np.zeros((2, 2), np.int64), np.full((2, 2), 10)
    with pytest.raises(ValueError, match="source holds values from 10 to 10, expected 0 to 9"):
        count(bad, good, [(0,)], 10)
    with pytest.raises(ValueError, match="target holds"):
        count(good, bad, [(0,)], 10)


def test_keys_that_do_not_fit_are_refused():
    wide = np.zeros((1, 20), np.int64)
    with pytest.raises(ValueError, match="64-bit"):
        count(wide, wide, [tuple(range(20))], 10)


@given(st.lists(st.integers(0, 3_000_000), min_size=1, max_size=20))
@settings(deadline=None)
def test_fixed_point_is_c_log_c(values):
    array = np.array(values)
    got = np.ldexp(fixed_point(array, 20).astype(float), -20)
    expected = [c * np.log2(c) if c else 0.0 for c in values]
    assert got == pytest.approx(expected, abs=1e-6, rel=1e-12)


@given(st.integers(1, 10**12))
def test_sums_cannot_overflow(examples):
    bits = fraction_bits(examples)
    assert module._c_log_c(examples, bits) + examples < 2**62
