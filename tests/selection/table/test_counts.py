import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.ragged import Documents, Examples, stream_of
from pretrain.selection.table import counts as module
from pretrain.selection.table.counts import Pairs, count_pairs, window
from tests.selection.brute_force import brute_force, cells_of

LAYOUTS = st.sampled_from(["auto", "dense", "sparse"])


@st.composite
def corpora(draw):
    rows, columns = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    with_target = draw(st.booleans())
    n = draw(st.integers(0, 8))

    def documents(vocabulary):
        tokens = st.lists(st.integers(0, vocabulary - 1), max_size=15)
        return Documents.of(draw(st.lists(tokens, min_size=n, max_size=n)))

    if with_target:
        return rows, columns, Examples(documents(rows), documents(columns))
    return rows, rows, Examples(documents(rows))


def rules():
    size = st.one_of(st.none(), st.integers(0, 6))
    return st.one_of(st.builds(Pairs, size, size), st.just(Pairs(presence=True)))


@given(corpora(), rules(), LAYOUTS, st.integers(1, 40), st.sampled_from([1, 20, 1000]))
@settings(max_examples=300)
def test_counts_equal_a_brute_force_count(corpus, pairs, layout, chunk_tokens, at_once):
    rows, columns, examples = corpus
    stream = stream_of(examples, chunk_tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "AT_ONCE", at_once)
        counts = count_pairs(stream, rows, columns, pairs, layout=layout)
    expected = brute_force(examples, pairs)
    assert cells_of(counts) == expected
    marginals = counts.marginals
    for feature in range(rows):
        assert marginals.pairs[feature] == sum(n for (f, _), n in expected.items() if f == feature)
    assert marginals.documents == len(examples)
    if not pairs.presence:
        assert np.array_equal(marginals.rows, marginals.pairs)
        assert marginals.total == sum(expected.values())
        for unit in range(columns):
            assert marginals.columns[unit] == sum(n for (_, u), n in expected.items() if u == unit)


@given(corpora())
@settings(max_examples=60)
def test_presence_marginals_are_documents(corpus):
    rows, columns, examples = corpus
    marginals = count_pairs(stream_of(examples, 100), rows, columns, Pairs(presence=True)).marginals
    for documents, found in (
        (examples.source, marginals.rows),
        (examples.target or examples.source, marginals.columns),
    ):
        each = [set(documents.between(d, d + 1).tokens.tolist()) for d in range(len(documents))]
        assert found.tolist() == [sum(v in words for words in each) for v in range(len(found))]
    assert marginals.total == len(examples)


@given(corpora(), corpora(), rules(), st.sampled_from(["dense", "sparse"]))
@settings(max_examples=100)
def test_adding_examples_equals_counting_all_at_once(first, second, pairs, layout):
    rows, columns = max(first[0], second[0]), max(first[1], second[1])
    if (first[2].target is None) != (second[2].target is None):
        return
    if first[2].target is None:
        rows = columns = max(rows, columns)
    counts = count_pairs(stream_of(first[2], 50), rows, columns, pairs, layout=layout)
    counts.add(stream_of(second[2], 50))
    assert cells_of(counts) == brute_force(first[2], pairs) + brute_force(second[2], pairs)
    assert counts.marginals.documents == len(first[2]) + len(second[2])


@given(corpora(), rules(), LAYOUTS, st.integers(1, 40))
@settings(max_examples=100)
def test_counts_in_torch_equal_a_brute_force_count(corpus, pairs, layout, chunk_tokens):
    rows, columns, examples = corpus
    stream = stream_of(examples, chunk_tokens)
    cpu = torch.device("cpu")
    counts = count_pairs(stream, rows, columns, pairs, layout=layout, device=cpu)
    assert cells_of(counts) == brute_force(examples, pairs)


@pytest.mark.parametrize("layout", ["dense", "sparse"])
@pytest.mark.parametrize("vocabulary", [5000, 70_000])
def test_rare_features_among_many_units(monkeypatch, vocabulary, layout):
    # Most rows have too few pairs for a look at every column, some have many.
    rng = np.random.default_rng(0)
    words = np.minimum(rng.zipf(1.3, 3000) - 1, vocabulary - 1)
    examples = Examples(Documents.of(np.array_split(words, 7)))
    for pairs in (window(5), Pairs(presence=True)):
        if layout == "dense" and vocabulary > 5000:
            return
        counts = count_pairs(stream_of(examples, 700), vocabulary, vocabulary, pairs, layout=layout)
        assert cells_of(counts) == brute_force(examples, pairs)


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_counts_beyond_sixteen_bits(layout):
    # 0 and 1 in turns: every window of 3 has the same pairs, 100,000 times.
    n = 100_000
    examples = Examples(Documents.of([np.arange(n) % 2]))
    counts = count_pairs(stream_of(examples, n), 2, 2, window(3), layout=layout)
    cells = cells_of(counts)
    assert cells[0, 1] == cells[1, 0] == 2 * (n - 1 + n - 3) // 2
    assert cells[0, 0] + cells[1, 1] == 2 * (n - 2)
    # One feature with one long target: more units than a line of 16 bits can count at once.
    long = Examples(Documents.of([[0]]), Documents.of([np.zeros(n, np.int32)]))
    assert cells_of(count_pairs(stream_of(long, n), 1, 1, Pairs(), layout=layout)) == {(0, 0): n}


def test_a_window_has_a_side():
    # 0 1 2 3: the features of unit 2 are 0 and 1 on its left, 3 on its right.
    stream = stream_of(Examples(Documents.of([[0, 1, 2, 3]])), 100)
    for side, features in (("left", {0, 1}), ("right", {3}), ("symmetric", {0, 1, 3})):
        counts = count_pairs(stream, 4, 4, window(2, side))
        assert {f for f, u in cells_of(counts) if u == 2} == features


def test_top_k_keeps_the_features_in_the_most_pairs_and_exact_marginals():
    rng = np.random.default_rng(0)
    examples = Examples(Documents.of([np.minimum(rng.geometric(0.1, 400) - 1, 29)]))
    stream = stream_of(examples, 100)
    everything = count_pairs(stream, 30, 30, window(3))
    some = count_pairs(stream, 30, 30, window(3), layout="top_k", top_k=7)
    kept = set(np.argsort(-everything.marginals.pairs, kind="stable")[:7].tolist())
    assert set(some.owned.tolist()) == kept
    assert cells_of(some) == {key: n for key, n in cells_of(everything).items() if key[0] in kept}
    assert np.array_equal(some.marginals.columns, everything.marginals.columns)
    assert some.marginals.total == everything.marginals.total


def test_a_long_document_is_one_chunk_and_short_ones_share_one():
    examples = Examples(Documents.of([[0] * 3, [], [1] * 50, [2] * 2, [3] * 2]))
    assert [len(chunk) for chunk in examples.chunks(5)] == [2, 1, 2]
    assert sum(chunk.tokens for chunk in examples.chunks(5)) == 57


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_shares_are_all_documents_in_order(ranks):
    documents = Documents.of([[i] * (i % 5) for i in range(23)])
    parts = [documents.share(rank, ranks) for rank in range(ranks)]
    assert np.concatenate([part.tokens for part in parts]).tolist() == documents.tokens.tolist()
    assert sum(map(len, parts)) == 23


def test_values_out_of_range_are_refused():
    good, bad = Documents.of([[0, 1]]), Documents.of([[0, 10]])
    with pytest.raises(ValueError, match="source holds values from 0 to 10, expected 0 to 9"):
        count_pairs(stream_of(Examples(bad), 10), 10, 10, window(2))
    with pytest.raises(ValueError, match="target holds"):
        count_pairs(stream_of(Examples(good, bad), 10), 10, 10, Pairs())


def test_windows_and_shapes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="before is -1"):
        Pairs(-1, 2)
    with pytest.raises(ValueError, match="presence"):
        Pairs(3, 3, presence=True)
    with pytest.raises(ValueError, match="1 sources but 2 targets"):
        Examples(Documents.of([[1]]), Documents.of([[1], [2]]))
    with pytest.raises(ValueError, match="rise from 0 to 3"):
        Documents(np.zeros(3), np.array([0, 2]))


def test_outgrowing_the_budget_is_refused_and_changes_nothing():
    first = Examples(Documents.of([[0, 1, 2]]))
    counts = count_pairs(stream_of(first, 100), 1000, 1000, window(2), layout="sparse")
    before = cells_of(counts)
    more = Examples(Documents.of([list(range(1000))]))
    with pytest.raises(ValueError, match="memory budget is 1,000"):
        counts.add(stream_of(more, 100), budget=1000)
    assert cells_of(counts) == before
    assert counts.marginals.documents == 1


def test_a_stream_that_changes_its_mind_is_refused():
    passes = iter([[[0, 1]], [[0, 1, 2, 3, 4, 5, 6, 7] * 3]])

    def stream():
        return [Examples(Documents.of(next(passes)))]

    with pytest.raises(ValueError, match="the same examples each time"):
        count_pairs(stream, 8, 8, window(4), layout="sparse")
    passes = iter([[[0, 1]], [[0, 9]]])
    with pytest.raises(ValueError, match="source holds values from 0 to 9"):
        count_pairs(stream, 8, 8, window(4), layout="sparse")
