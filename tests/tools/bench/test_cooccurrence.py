import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from pretrain.errors import UserError
from tools.bench import cooccurrence

# n, vocabulary, window: windows within, as long as, and longer than the document; one token; none.
DOCUMENTS = [(60, 7, 3), (200, 50, 10), (5, 3, 4), (5, 3, 5), (4, 2, 9), (2, 2, 1), (1, 3, 2)]


def document(n: int, vocabulary: int) -> np.ndarray:
    """Random tokens [n], the small ids more often."""
    drawn = np.random.default_rng([n, vocabulary]).random(n) ** 2 * vocabulary
    return drawn.astype(np.int32)


def brute_force(tokens: np.ndarray, vocabulary: int, window: int) -> np.ndarray:
    """Counts [V, V] over all pairs of places."""
    counts = np.zeros((vocabulary, vocabulary), dtype=np.int64)
    for i, j in itertools.permutations(range(len(tokens)), 2):
        if abs(i - j) <= window:
            counts[tokens[i], tokens[j]] += 1
    return counts


def run_glove(tokens: np.ndarray, vocabulary: int, window: int, folder: Path) -> csr_matrix:
    """Counts [V, V] of the program, if there is one."""
    program = cooccurrence.find_glove()
    if program is None:
        pytest.skip("GloVe's cooccur is not on PATH; it is built from its C sources")
    counts, seconds = cooccurrence.glove_cooccur(tokens, vocabulary, window, folder, program)
    assert seconds > 0
    assert counts.dtype == np.int64
    return counts


def pretend_glove(folder: Path, records: list[tuple[int, int, float]], code: int = 0) -> str:
    """A program that answers with these records, whatever it is asked."""
    np.array(records, dtype=cooccurrence.GLOVE_RECORD).tofile(folder / "answer.bin")
    program = folder / "cooccur"
    program.write_text(f"#!/bin/sh\ncat answer.bin\necho no luck >&2\nexit {code}\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("n,window", [*itertools.product(range(7), range(9)), (40, 6)])
def test_windowed_pairs_are_as_many_as_there_are(n, window):
    pairs = sum(abs(i - j) <= window for i, j in itertools.permutations(range(n), 2))
    assert cooccurrence.windowed_pairs(n, window) == pairs


@pytest.mark.parametrize("n,vocabulary,window", [*DOCUMENTS, (0, 3, 2)])
def test_scipy_and_dictionary_count_as_brute_force_does(n, vocabulary, window):
    tokens = document(n, vocabulary)
    expected = brute_force(tokens, vocabulary, window)
    sparse = cooccurrence.scipy_sparse(tokens, vocabulary, window)
    assert sparse.format == "csr"
    assert sparse.dtype == np.int64
    np.testing.assert_array_equal(sparse.toarray(), expected)
    cells = {(i, j): int(expected[i, j]) for i, j in np.argwhere(expected).tolist()}
    assert cooccurrence.python_dict(tokens.tolist(), window) == cells
    assert expected.sum() == cooccurrence.windowed_pairs(n, window)


@pytest.mark.parametrize("n,vocabulary,window", DOCUMENTS)
def test_glove_counts_as_brute_force_does(n, vocabulary, window, tmp_path):
    tokens = document(n, vocabulary)
    counts = run_glove(tokens, vocabulary, window, tmp_path)
    np.testing.assert_array_equal(counts.toarray(), brute_force(tokens, vocabulary, window))


def test_glove_counts_as_scipy_does_where_its_dense_table_is_too_small(tmp_path):
    # Its table holds pairs whose places in the vocabulary multiply to less than 13 million.
    tokens = np.concatenate([np.arange(6000), document(3000, 6000)]).astype(np.int32)
    counts = run_glove(tokens, 6000, 4, tmp_path)
    assert (counts != cooccurrence.scipy_sparse(tokens, 6000, 4)).nnz == 0


def test_glove_in_a_folder_with_a_long_name(tmp_path):
    folder = tmp_path / ("d" * 250)
    folder.mkdir()
    tokens = document(30, 5)
    counts = run_glove(tokens, 5, 2, folder)
    np.testing.assert_array_equal(counts.toarray(), brute_force(tokens, 5, 2))


@pytest.mark.parametrize("first", [2.0, 4.0], ids=["right", "first record twice"])
def test_words_of_glove_are_numbered_by_frequency(first, tmp_path):
    # 4 0 4 with window 1: word 1 is token 4, word 2 is token 0.
    tokens = np.array([4, 0, 4], dtype=np.int32)
    program = pretend_glove(tmp_path, [(1, 2, first), (2, 1, 2.0)])
    counts, _ = cooccurrence.glove_cooccur(tokens, 6, 1, tmp_path, program)
    np.testing.assert_array_equal(counts.toarray(), brute_force(tokens, 6, 1))
    assert (tmp_path / "vocabulary.txt").read_text() == "w4 2\nw0 1\n"
    assert (tmp_path / "document.txt").read_text() == "w4 w0 w4\n"


@pytest.mark.parametrize(
    "records,code,message",
    [
        ([(1, 2, 2.0), (2, 1, 1.0)], 0, r"counts\.bin: 3 pairs were counted, but there are 4"),
        ([], 3, "cooccur ended with code 3: no luck"),
    ],
)
def test_a_glove_that_fails_is_refused(records, code, message, tmp_path):
    program = pretend_glove(tmp_path, records, code)
    with pytest.raises(UserError, match=message):
        cooccurrence.glove_cooccur(np.array([0, 1, 0], np.int32), 2, 1, tmp_path, program)


def test_glove_is_looked_for_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cooccurrence.find_glove() is None
    program = pretend_glove(tmp_path, [])
    assert cooccurrence.find_glove() == program


def test_words_and_labels_count_documents_as_brute_force_does():
    drawn = np.random.default_rng(0)
    names = [f"word{i}" for i in range(12)]
    texts = [" ".join(drawn.choice(names, size=8)).title() for _ in range(25)]
    labels = [sorted(drawn.choice(["x", "y", "z"], size=k % 4).tolist()) for k in range(25)]
    counts, words, kinds = cooccurrence.count_vectorizer_labels(texts, labels)
    expected = Counter(
        (word, label)
        for text, carried in zip(texts, labels, strict=True)
        for word, label in itertools.product(set(text.lower().split()), set(carried))
    )
    assert words == sorted(names)
    assert kinds == ["x", "y", "z"]
    assert counts.shape == (len(words), len(kinds))
    for (i, word), (j, kind) in itertools.product(enumerate(words), enumerate(kinds)):
        assert counts[i, j] == expected[word, kind]


def test_words_are_numbered_by_frequency_then_by_place():
    text = "It's a dog. A snake_case dog; it's 2 dogs' A!"
    # a 3, it's 2, dog 2, and once each: . snake case ; 2 dogs !
    ids = cooccurrence.words_of(text, 5, None)
    assert ids.dtype == np.int32
    assert ids.tolist() == [1, 0, 2, 3, 0, 4, 4, 2, 4, 1, 4, 4, 0, 4]
    everything = cooccurrence.words_of(text, 100, None)
    assert everything.tolist() == [1, 0, 2, 3, 0, 4, 5, 2, 6, 1, 7, 8, 0, 9]
    assert set(cooccurrence.words_of(text, 1, None).tolist()) == {0}


@pytest.mark.parametrize(
    "tokens,expected",
    [(2, [0, 1]), (3, [0, 1, 0]), (8, [0, 1, 0, 0, 1, 0, 0, 1]), (None, [0, 1, 0])],
)
def test_a_text_is_cut_or_repeated(tokens, expected):
    assert cooccurrence.words_of("yes no yes", 2, tokens).tolist() == expected


def test_a_text_without_words_is_refused():
    with pytest.raises(UserError, match="no words"):
        cooccurrence.words_of("_ - _", 4, 10)


def test_a_corpus_is_read_from_a_file(tmp_path):
    file = tmp_path / "text.txt"
    file.write_bytes("Größe ".encode() + b"\xff")
    assert cooccurrence.natural_corpus(file) == "Größe \N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("content", [None, b"", b" \n"])
def test_a_corpus_that_is_missing_or_empty_is_refused_by_name(content, tmp_path):
    file = tmp_path / "text.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"--corpus .*text\.txt .*; give a file"):
        cooccurrence.natural_corpus(file)


def test_docstrings_are_collected_in_order_until_there_are_enough(tmp_path):
    for name, text in [
        ("b.py", '"""Second."""\nasync def f():\n    """Third,\n\n    indented."""\n'),
        ("a/z.py", '"""First."""\nx = "no docstring"\n'),
        ("a/broken.py", "print 1"),
        ("site-packages/p.py", '"""Installed."""'),
        ("test/t.py", '"""Test."""'),
        ("c.py", 'class C:\n    """Last."""\n'),
    ]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    everything = ["First.", "Second.", "Third,", "", "indented.", "Last."]
    assert cooccurrence.docstrings(tmp_path, 1000).split("\n") == everything
    assert cooccurrence.docstrings(tmp_path, 7).split("\n") == everything[:-1]
    assert cooccurrence.docstrings(tmp_path, 6) == "First."
    with pytest.raises(UserError, match=r"test has no docstrings .* --corpus FILE"):
        cooccurrence.docstrings(tmp_path / "a" / "test", 1000)


def test_without_a_file_the_corpus_is_long_and_english():
    text = cooccurrence.natural_corpus(None)
    ids = cooccurrence.words_of(text, 8192, None)
    assert len(ids) > 100_000
    assert "return" in text.lower()
    assert np.unique(ids).size > 4000
