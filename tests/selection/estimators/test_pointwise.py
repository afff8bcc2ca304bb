import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.ragged import Documents, Examples, stream_of
from pretrain.selection.estimators.pointwise import Pointwise, Scorer
from pretrain.selection.table.counts import Pairs, count_pairs, window
from tests.selection.brute_force import brute_force

CORPUS = Examples(
    Documents.of([np.random.default_rng(seed).integers(0, 10, 30) for seed in range(8)])
)
RULE = window(4)


def expected_scores(features, candidates, how: Pointwise) -> list[float]:
    """Scores as their formulas read, from a brute-force count."""
    joint = brute_force(CORPUS, RULE)
    total = sum(joint.values())
    rows, columns = np.zeros(10), np.zeros(10)
    for (f, u), n in joint.items():
        rows[f] += n
        columns[u] += n
    share = rows**how.smoothing / (rows**how.smoothing).sum()
    scores = []
    same = candidates is None
    for own, units in zip(features, features if same else candidates, strict=True):
        for k, unit in enumerate(units):
            score = 0.0
            for j, feature in enumerate(own):
                n = joint[feature, unit]
                if (same and j == k) or n < how.minimum_count:
                    continue
                bits = math.log2(n / total / share[feature] / (columns[unit] / total))
                if how.normalised:
                    bits /= -math.log2(n / total)
                score += max(0.0, bits) if how.positive else bits
            scores.append(score)
    return scores


def settings_of():
    return st.builds(
        Pointwise,
        st.booleans(),
        st.integers(1, 20),
        st.sampled_from([0.75, 1.0]),
        st.booleans(),
    )


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=5),
    st.data(),
    settings_of(),
    st.sampled_from(["dense", "sparse"]),
)
@settings(max_examples=100)
def test_scores_equal_their_definition(features, data, how, layout):
    candidates = data.draw(
        st.one_of(
            st.none(),
            st.lists(
                st.lists(st.integers(0, 9), max_size=4),
                min_size=len(features),
                max_size=len(features),
            ),
        )
    )
    scorer = Scorer(count_pairs(stream_of(CORPUS, 100), 10, 10, RULE, layout=layout), how)
    found = scorer(Documents.of(features), None if candidates is None else Documents.of(candidates))
    assert found == pytest.approx(expected_scores(features, candidates, how), abs=1e-6)


def test_normalised_scores_lie_between_minus_one_and_one():
    # 0 and 1 always together, 2 and 3 together now and then.
    documents = Documents.of([[0, 1]] * 5 + [[2, 3], [2, 4], [4, 3]])
    counts = count_pairs(stream_of(Examples(documents), 10), 5, 5, window(1))
    how = Pointwise(normalised=True, minimum_count=1, smoothing=1.0, positive=False)
    scores = Scorer(counts, how)(Documents.of([[0], [2], [2]]), Documents.of([[1], [3], [4]]))
    assert scores[0] == pytest.approx(math.log2(16 * 5 / 25) / math.log2(16 / 5))
    assert scores[1] == scores[2]
    assert np.all(np.abs(scores) <= 1.0)


def test_presence_scores_use_shares_of_documents():
    words = Documents.of([[0, 0, 1], [0], [1], [2]])
    labels = Documents.of([[0], [0], [1], [1]])
    presence = Pairs(presence=True)
    counts = count_pairs(stream_of(Examples(words, labels), 10), 3, 2, presence)
    how = Pointwise(minimum_count=1, positive=False)
    scores = Scorer(counts, how)(Documents.of([[0], [1]]), Documents.of([[0, 1], [0, 1]]))
    # p(word 0, label 0) = 2/4, p(word 0) = 2/4, p(label 0) = 2/4; word 1 is in one text of each.
    assert scores.tolist() == pytest.approx([1.0, 0.0, 0.0, 0.0])


def test_features_and_candidates_that_never_occurred_score_nothing():
    counts = count_pairs(stream_of(CORPUS, 100), 20, 20, RULE)
    scores = Scorer(counts, Pointwise(minimum_count=1))(Documents.of([[15, 16], []]))
    assert scores.tolist() == [0.0, 0.0]


def test_settings_and_empty_tables_are_refused():
    with pytest.raises(ValueError, match="minimum_count 0"):
        Pointwise(minimum_count=0)
    with pytest.raises(ValueError, match="smoothing 2"):
        Pointwise(smoothing=2.0)
    with pytest.raises(ValueError, match="at least one pair"):
        Scorer(count_pairs(lambda: [], 5, 5, RULE), Pointwise())
