import json
import re
import sys
from types import ModuleType

import numpy as np
import pytest

from pretrain.errors import UserError
from pretrain.selection.table.counts import Marginals
from tools.bench import cooccurrence, selector
from tools.bench import labels as labels_module
from tools.bench.labels import check_labels, count_labels, labelled_paragraphs
from tools.bench.rounds import clocked, extremes, median, ratios, take_turns
from tools.bench.selector_summary import in_words, machine, plans, summary
from tools.bench.two_ranks import Job, Part, TwoRanks, spread


def job(n: int = 1000, vocabulary: int = 50, window: int = 2) -> Job:
    """Random tokens [n], the small ids more often."""
    drawn = np.random.default_rng(n).random(n) ** 2 * vocabulary
    return Job(drawn.astype(np.int32), vocabulary, window)


SECONDS = {
    "ours_dense": [1.0, 2.0, 4.0],
    "ours_sparse": [2.0, 2.0, 2.0],
    "our_labels": [1.0, 1.0, 1.0],
    "count_vectorizer": [3.0, 2.0, 4.0],
    "query": [0.002, 0.001, 0.004],
    "scipy_sparse": [2.0, 2.0, 2.0],
    "python_dict": [30.0, 40.0],
    "one_rank_dense": [3.0, 3.0, 3.0],
    "two_ranks_dense": [1.0, 2.0, 1.5],
    "two_apart_dense": [1.0, 1.0, 1.0],
    "one_rank_sparse": [1.0, 1.0, 1.0],
    "two_ranks_sparse": [1.0, 1.0, 1.0],
    "two_apart_sparse": [1.0, 1.0, 1.0],
}
PARTS = {
    "dense": [Part(1.0, 110, 100, 0), Part(1.0, 90, 60, 0)],
    "sparse": [Part(1.0, 1, 1, 0), Part(1.0, 1, 1, 0)],
}


def test_a_summary_has_medians_of_the_ratios_within_rounds():
    found = summary(job(1000, window=2), "dense", SECONDS, PARTS, 4096)
    assert found["pairs"] == 4 * 1000 - 6
    assert found["pairs_per_second"] == 1997
    assert found["tokens_per_second"] == 500
    assert found["ratio"] == {"scipy_sparse": 1.0, "python_dict": 25.0, "count_vectorizer": 3.0}
    assert found["ratio_by_layout"]["sparse"] == {"scipy_sparse": 1.0, "python_dict": 17.5}
    assert found["two_rank_speedup"] == 2.0
    assert found["two_rank_speedup_by_layout"] == {"dense": 2.0, "sparse": 1.0}
    assert (found["bytes_over_share"], found["balance"]) == (1.1, 1.25)
    assert (found["query_ms"], found["candidates_per_second"]) == (2.0, 2_048_000)
    assert found["seconds"]["ours_dense"] == 2.0
    assert found["rounds"]["python_dict"] == 2
    ranges = found["ranges"]
    assert ranges["ratio"]["scipy_sparse"] == [0.5, 2.0]
    assert ranges["pairs_per_second"] == [998, 3994]
    assert ranges["two_rank_speedup"] == [1.5, 3.0]
    assert ranges["two_rank_speedup_by_layout"] == {"dense": [1.5, 3.0], "sparse": [1.0, 1.0]}
    assert ranges["query_ms"] == [1.0, 4.0]
    assert ranges["seconds"]["python_dict"] == [30.0, 40.0]


def test_the_result_in_words():
    found = summary(job(1000, window=2), "dense", SECONDS, PARTS, 4096) | machine()
    text = in_words(found | {"corpus": "plays.txt", "selection_share": 0.01})
    assert re.search(r"^scipy_sparse / ours +1\.000 +0\.500 +2\.000$", text, re.MULTILINE)
    assert re.search(r"^one rank / two +2\.000 +1\.500 +3\.000$", text, re.MULTILINE)
    assert re.search(r"^python_dict +35\.0000 +30\.0000 +40\.0000 +2$", text, re.MULTILINE)
    assert "1,000 tokens of plays.txt" in text
    assert "1.1000 of the even share of bytes, 1.2500 of the mean pairs" in text
    assert text.endswith("selection_share: 0.01")


def test_rows_are_planned_for_more_ranks():
    # Half of the work is in one of eight rows, and no rank has room for more than its even share.
    pairs = np.array([70, 10, 10, 10, 10, 10, 10, 10])
    found = plans(Marginals(pairs, pairs, 140, pairs, 1), "dense")
    assert found["balance_by_ranks"] == {"2": 1.429, "4": 2.286, "8": 4.0}  # 100/70, 80/35, 70/17.5
    assert found["bytes_over_share_by_ranks"] == {"2": 1.0, "4": 1.0, "8": 1.0}


def test_the_largest_part_over_the_even_share():
    assert spread(PARTS["dense"]) == (1.1, 1.25)


def test_turns_are_taken_in_opposite_orders(capsys):
    called = []

    def route(name: str, seconds: float):
        def go() -> float:
            called.append(name)
            return seconds

        return go

    routes = {name: route(name, 1.0) for name in "abc"}
    seconds = take_turns(routes, 3, {"b": 2, "c": 9})
    assert "".join(called) == "abc" + "cba" + "ac"
    assert seconds == {"a": [1.0] * 3, "b": [1.0] * 2, "c": [1.0] * 3}
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.endswith("round 3 of 3\n")


def test_figures_over_rounds():
    seconds = {"theirs": [2.0, 9.0], "ours": [1.0, 3.0, 7.0]}
    assert ratios(seconds, "theirs", "ours") == [2.0, 3.0]
    assert median([1.23456, 5.0, 0.1]) == 1.235
    assert extremes([1.23456, 5.0, 0.1]) == [0.1, 5.0]
    assert clocked(lambda: None)() >= 0.0


def test_documents_of_the_text_are_dealt_out_whole():
    assert job(2500).cut.lengths.tolist() == [1000, 1000, 500]
    assert job(2000).cut.lengths.tolist() == [1000, 1000]
    assert job(999).cut.lengths.tolist() == [999]


@pytest.mark.parametrize("n", [1000, 50_000])
def test_micro_batches_have_sentences_of_twenty(n):
    batches = selector.query_batches(job(n).tokens)
    assert len(batches) == 10
    for batch in batches:
        assert batch.lengths.tolist() == ([20] * 25 + [12]) * 8
    text = np.concatenate([batch.tokens for batch in batches])
    np.testing.assert_array_equal(text, np.resize(job(n).tokens, 40_960))


def test_our_counts_are_checked_in_both_layouts():
    tables = selector.checked(job())
    assert list(tables) == ["dense", "sparse"]
    assert all(counts.marginals.total == 4 * 1000 - 6 for counts in tables.values())


def test_a_wrong_count_is_not_timed(monkeypatch):
    right = cooccurrence.scipy_sparse
    monkeypatch.setattr(cooccurrence, "scipy_sparse", lambda *a: 2 * right(*a))
    with pytest.raises(UserError, match="layout dense differ from scipy's"):
        selector.checked(job())


def test_a_table_that_does_not_fit_is_refused(monkeypatch):
    small = Job.count
    monkeypatch.setattr(
        Job, "count", lambda self, documents, layout: small(self, documents, "top_k")
    )
    with pytest.raises(UserError, match="use a smaller vocabulary"):
        selector.checked(job())


def test_two_ranks_that_lose_pairs_are_refused():
    class Pipe:
        def send(self, order):
            pass

        def poll(self, seconds):
            return True

        def recv(self):
            return Part(1.0, 1, 1, 5)

    pipes = [Pipe(), Pipe()]
    with pytest.raises(UserError, match="two ranks counted 10 pairs, one rank 5"):
        TwoRanks(pipes, job()).both("dense")


TEXT = "Sing, Heavenly muse!\n\n  \nOf heavenly birds\nand trees\n\n.\n\nTrees sing heavenly"


def test_paragraphs_carry_the_frequent_long_words():
    texts, labels = labelled_paragraphs(TEXT, 100)
    assert texts == ["Sing, Heavenly muse!", "Of heavenly birds\nand trees", "Trees sing heavenly"]
    assert labels == [["heavenly"], ["birds", "heavenly", "trees"], ["heavenly", "trees"]]
    assert labelled_paragraphs(TEXT, 4)[0] == texts[:2]
    with pytest.raises(UserError, match="no word of 5 letters"):
        labelled_paragraphs("a bee or two", 10)


def test_words_and_labels_are_counted_as_scikit_learn_does():
    texts, labels = labelled_paragraphs(TEXT, 100)
    check_labels(texts, labels)
    counts, words, kinds = count_labels(texts, labels)
    assert kinds == ["heavenly", "birds", "trees"]
    assert counts.marginals.total == 3
    start, cols, values = counts.table.cells()
    row = words.index("sing")
    cells = slice(start[row], start[row + 1])
    assert [kinds[col] for col in cols[cells]] == ["heavenly", "trees"]
    assert values[cells].tolist() == [2, 1]


def test_labels_that_are_counted_otherwise_are_refused(monkeypatch):
    def twice(*given):
        counts, *names = cooccurrence.count_vectorizer_labels(*given)
        return 2 * counts, *names

    monkeypatch.setattr(labels_module, "count_vectorizer_labels", twice)
    with pytest.raises(UserError, match="differ from scikit-learn's"):
        check_labels(["to be", "to do"], [["x"], ["x", "y"]])


@pytest.mark.distributed
def test_it_runs_and_prints_json(capsys):
    small = ["--tokens", "20000", "--vocabulary", "256", "--rounds", "1", "--without-training"]
    assert selector.main(["--json", *small]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pairs_per_second"] > found["tokens_per_second"] > 0
    assert {"scipy_sparse", "python_dict", "count_vectorizer"} <= set(found["ratio"])
    assert all(value > 0 for value in found["ratio"].values())
    assert found["two_rank_speedup"] > 0
    # Of 256 rows, the share may be missed by one.
    assert 1.0 <= found["bytes_over_share"] <= 1.1 + 1 / 128
    assert 1.0 <= found["balance"] <= 1.1
    assert list(found["bytes_over_share_by_ranks"]) == ["2", "4", "8"]
    assert found["query_ms"] > 0
    assert found["layout"] == "dense"
    assert found["cpus"] >= 1
    assert {"numpy", "numba", "scipy"} <= set(found["versions"])
    assert not any(name.startswith("selection_share") for name in found)
    for low, high in found["ranges"]["ratio"].values():
        assert low <= high


def test_the_share_of_training_is_merged(monkeypatch, capsys):
    module = ModuleType("tools.bench.selection_share")
    module.measure_share = lambda tokens, size: {"selection_share": size}
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(selector, "measure", lambda text, job, rounds: {"tokens": len(job.tokens)})
    assert selector.main(["--json", "--tokens", "1000", "--vocabulary", "9"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"tokens": 1000, "corpus": "docstrings", "selection_share": 9}


@pytest.mark.parametrize(
    "given,message",
    [
        (["--corpus", "nowhere.txt"], "--corpus nowhere.txt cannot be read"),
        (["--rounds", "0"], "--rounds is 0; use 1 or more"),
        (["--tokens", "10"], "--tokens is 10; use 1,000 or more"),
        (["--vocabulary", "1"], "--vocabulary is 1; use 2 or more"),
    ],
)
def test_what_cannot_be_measured_is_refused(given, message, capsys):
    assert selector.main([*given, "--without-training"]) == 2
    assert message in capsys.readouterr().err
