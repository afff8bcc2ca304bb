import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from pretrain.ragged import Documents
from pretrain.tasks.multilabel.scores import LabelCounts, count_labels

SETS = st.sets(st.integers(0, 5), max_size=4).map(sorted)


def matrix(sets: list[list[int]]) -> np.ndarray:
    rows = np.zeros((len(sets), 6), dtype=int)
    for row, labels in zip(rows, sets, strict=True):
        row[labels] = 1
    return rows


@given(st.lists(st.tuples(SETS, SETS), min_size=1, max_size=20))
def test_scores_equal_scikit_learn(pairs):
    predicted, actual = ([list(part) for part in side] for side in zip(*pairs, strict=True))
    counts = count_labels(Documents.of(predicted), Documents.of(actual), 6)
    guessed, true = matrix(predicted), matrix(actual)
    assert counts.micro_f1 == pytest.approx(
        f1_score(true, guessed, average="micro", zero_division=0)
    )
    seen = np.flatnonzero(guessed.any(axis=0) | true.any(axis=0))
    expected = (
        f1_score(true, guessed, labels=seen, average="macro", zero_division=0) if len(seen) else 0
    )
    assert counts.macro_f1 == pytest.approx(expected)
    assert counts.subset_accuracy == pytest.approx(accuracy_score(true, guessed))
    assert counts.predicted_length == pytest.approx(guessed.sum(axis=1).mean())


def test_parts_add_up_and_travel_as_numbers():
    predicted, actual = Documents.of([[0, 1], [2], []]), Documents.of([[1], [2], [3]])
    whole = count_labels(predicted, actual, 4)
    parts = [
        count_labels(predicted.between(a, b), actual.between(a, b), 4) for a, b in ((0, 1), (1, 3))
    ]
    total = LabelCounts.from_numbers(sum(part.to_numbers() for part in parts))
    for found in (total, parts[0] + parts[1]):
        assert found.to_numbers().tolist() == whole.to_numbers().tolist()
    assert whole.micro_f1 == pytest.approx(2 * 2 / (3 + 3))
    assert whole.subset_accuracy == pytest.approx(1 / 3)


def test_repeated_and_odd_labels():
    counts = count_labels(Documents.of([[1, 1], [2, 9]]), Documents.of([[1], [2]]), 4)
    assert counts.predicted.tolist() == [0, 1, 1, 0]
    assert counts.micro_f1 == 1.0
    assert counts.subset_accuracy == 0.5


def test_nothing_is_no_error():
    counts = count_labels(Documents.of([]), Documents.of([]), 4)
    assert (counts.micro_f1, counts.macro_f1, counts.subset_accuracy) == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="1 predicted sets but 2"):
        count_labels(Documents.of([[1]]), Documents.of([[1], [2]]), 4)
