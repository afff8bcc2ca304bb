import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.ragged import Documents, Examples, stream_of
from pretrain.selection.estimators.information import presence_information
from pretrain.selection.estimators.pointwise import Pointwise, Scorer
from pretrain.selection.orders.labels import SortLabels, natural_order, order_labels, sort_by_scores
from pretrain.selection.table.counts import Pairs, count_pairs

SETS = st.lists(st.sets(st.integers(0, 9), max_size=6).map(sorted), max_size=8)


@given(SETS, st.permutations(range(10)))
def test_a_set_comes_back_from_every_order(sets, order):
    labels = Documents.of(sets)
    transform = SortLabels(np.array(order))
    predicted = transform.apply(labels)
    place = {label: rank for rank, label in enumerate(order)}
    for d, given_set in enumerate(sets):
        own = predicted.between(d, d + 1).tokens.tolist()
        assert own == sorted(given_set, key=place.__getitem__)
    restored = transform.restore(predicted)
    assert restored.tokens.tolist() == labels.tokens.tolist()
    assert restored.offsets.tolist() == labels.offsets.tolist()


def test_orders_of_all_labels():
    documents, bits = np.array([5, 9, 9, 1]), [0.1, 0.3, 0.2, 0.3]
    assert order_labels("frequency", 4, documents).tolist() == [1, 2, 0, 3]
    assert order_labels("max_mi", 4, bits=bits).tolist() == [1, 3, 2, 0]
    assert order_labels("min_mi", 4, bits=bits).tolist() == [0, 2, 1, 3]
    assert order_labels("ntp", 4).tolist() == [0, 1, 2, 3]
    assert order_labels("fixed", 4, fixed=[2, 0, 3, 1]).tolist() == [2, 0, 3, 1]
    random = order_labels("random", 50, seed=3)
    assert sorted(random.tolist()) == list(range(50))
    assert random.tolist() == order_labels("random", 50, seed=3).tolist() != list(range(50))


def test_an_informative_label_comes_first_and_a_frequent_one_does_not():
    # Label 0 is everywhere; word 1 gives label 1 away, word 2 label 2 half of the time.
    words = Documents.of([[0, 1], [0, 1], [0, 2], [0, 2], [0], [0]])
    labels = Documents.of([[0, 1], [0, 1], [0, 2], [0], [0], [0]])
    counts = count_pairs(stream_of(Examples(words, labels), 9), 3, 3, Pairs(presence=True))
    bits = presence_information(counts)
    assert order_labels("max_mi", 3, bits=bits).tolist() == [1, 2, 0]
    assert order_labels("frequency", 3, counts.marginals.columns).tolist() == [0, 1, 2]
    # For one example: by the words that it has.
    scores = Scorer(counts, Pointwise(minimum_count=1))(
        Documents.of([[0, 2]]), Documents.of([[0, 2]])
    )
    assert sort_by_scores(Documents.of([[0, 2]]), scores).tokens.tolist() == [2, 0]


def test_scores_sort_within_documents_and_ties_go_to_the_lower_number():
    labels = Documents.of([[7, 3, 5], [], [2, 1]])
    scores = np.array([1.0, 1.0, 2.0, 0.0, 4.0])
    assert sort_by_scores(labels, scores).tokens.tolist() == [5, 3, 7, 1, 2]
    assert sort_by_scores(labels, scores, largest_first=False).tokens.tolist() == [3, 7, 5, 2, 1]
    assert natural_order(labels).tokens.tolist() == [3, 5, 7, 1, 2]


def test_what_is_missing_or_wrong_is_refused():
    with pytest.raises(
        ValueError, match="frequency needs a value for each of 3 labels, found none"
    ):
        order_labels("frequency", 3)
    with pytest.raises(ValueError, match="found 2"):
        order_labels("max_mi", 3, bits=[1.0, 2.0])
    with pytest.raises(ValueError, match="unknown strategy"):
        order_labels("alphabetical", 3)
    with pytest.raises(ValueError, match="not a permutation"):
        SortLabels(np.array([0, 0, 1]))
    with pytest.raises(ValueError, match="labels holds values from 5 to 5, expected 0 to 1"):
        SortLabels(np.array([1, 0])).apply(Documents.of([[5]]))
    with pytest.raises(ValueError, match="2 labels but 1 scores"):
        sort_by_scores(Documents.of([[1, 2]]), np.array([1.0]))
