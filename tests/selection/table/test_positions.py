from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pretrain.selection.table.positions import count_positions
from tests.selection.brute_force import cells_of


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


@given(corpora(), st.integers(4, 4096), st.sampled_from(["dense", "sparse"]))
@settings(max_examples=150)
def test_counts_equal_a_brute_force_count(corpus, chunk_tokens, layout):
    vocabulary, source, target, slots = corpus
    table = count_positions(
        source, target, slots, vocabulary, chunk_tokens=chunk_tokens, layout=layout
    )
    expected = Counter(
        (slot, tuple(source[i, list(columns)].tolist()), unit, int(target[i, unit]))
        for i in range(len(source))
        for slot, columns in enumerate(slots)
        for unit in range(target.shape[1])
    )
    size = vocabulary ** max(len(slot) for slot in slots)
    found = Counter()
    for (row, column), n in cells_of(table.counts).items():
        slot, rest = divmod(int(table.keys[row]), size)
        digits = []
        for _ in slots[slot]:
            rest, digit = divmod(rest, vocabulary)
            digits.append(digit)
        found[slot, tuple(reversed(digits)), *divmod(column, vocabulary)] = n
    assert found == expected
    assert table.counts.marginals.documents == len(source)
    for unit, columns in enumerate(table.counts.marginals.columns.reshape(-1, vocabulary)):
        assert columns.tolist() == np.bincount(target[:, unit], minlength=vocabulary).tolist()


def test_values_out_of_range_are_refused():
    good, bad = np.zeros((2, 2), np.int64), np.full((2, 2), 10)
    with pytest.raises(ValueError, match="source holds values from 10 to 10, expected 0 to 9"):
        count_positions(bad, good, [(0,)], 10)
    with pytest.raises(ValueError, match="target holds"):
        count_positions(good, bad, [(0,)], 10)


def test_keys_that_do_not_fit_are_refused():
    wide = np.zeros((1, 20), np.int64)
    with pytest.raises(ValueError, match="64-bit"):
        count_positions(wide, wide, [tuple(range(20))], 10)


def test_features_that_the_table_does_not_know_are_refused():
    some = np.zeros((3, 1), np.int64)
    table = count_positions(some, some, [(0,)], 5)
    with pytest.raises(ValueError, match="does not know"):
        table.stream(some + 1, some, 100)
