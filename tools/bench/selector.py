"""Pairs/s of the selector's counter against what people count with today, in turns, in one run.

    python -m tools.bench.selector [--json] [--corpus FILE] [--tokens 1000000] [--vocabulary 8192]
        [--window 10] [--rounds 7] [--without-training]

The corpus is a file of UTF-8 text; without one, the docstrings of Python's library. Everything
takes its turn in each round, in the opposite order in every other round, so that a machine that
changes its speed changes all of them. `ratio` is a baseline's seconds over ours, or one rank's over
two ranks': the median over rounds of the ratio within a round. Before that, the counts are
compared with scipy's and scikit-learn's cell by cell.

- Ours runs on one core, from token ids in memory to a settled table: both passes, and the memory
  that they take. As in a training run on a CPU, the C library is told to keep freed memory, in all
  processes.
- scipy_sparse and python_dict start from the same ids (tools.bench.cooccurrence). A dictionary
  takes seconds, so it has two rounds at most. glove_cooccur, where the program is on PATH, starts
  from a file of text and ends with a file of counts: it has no other interface.
- count_vectorizer counts words by labels over paragraphs, scikit-learn's way. Our presence counts
  start from the same texts and lists of labels and cut and number the words in Python, in the time
  that is measured. The labels are stand-ins: see tools.bench.labels.labelled_paragraphs.
- Two ranks are two processes over gloo with half of the documents each, compared with one of them
  alone on all documents, which are 1000 tokens of the text each; each turn begins with a count that
  is not timed, since processes wait seconds for their turn. two_rank_speedup_possible is what
  two processes reach that count half of the documents each and exchange nothing: on a virtual
  machine, two busy cores are slower than one.
- A query scores 8 sequences of 512 tokens, each token by the others of its sentence of 20.
- The share of a training step that selection takes is measured by tools.bench.selection_share.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pretrain.console import run_program
from pretrain.errors import UserError
from pretrain.files import json_text
from pretrain.paths import path_argument
from pretrain.ragged import Documents
from tools.bench.rounds import Route, clocked, take_turns

if TYPE_CHECKING:
    from pretrain.selection.table.counts import ShardedCounts
    from pretrain.selection.table.sharding import Layout, LayoutChoice
    from tools.bench.two_ranks import Job, TwoRanks

SIZES = {
    "tokens": (1_000_000, 1000, "words of the text"),
    "vocabulary": (8192, 2, "different ones, the last one for all the rest"),
    "window": (10, 1, "places to the left and to the right"),
    "rounds": (7, 1, "turns of each route"),
}
"""Option: what it is if not given, the least that makes sense, what it means."""
ROUNDS = {"python_dict": 2}
SEQUENCES, SEQUENCE_TOKENS, SENTENCE_TOKENS = 8, 512, 20
BATCHES = 10


def one_document(job: Job, layout: LayoutChoice) -> ShardedCounts:
    """Our counts of the whole text as one document, which the baselines take it for."""
    return job.count(Documents(job.tokens, np.array([0, len(job.tokens)])), layout)


def checked(job: Job) -> dict[Layout, ShardedCounts]:
    """Our counts in each layout that fits, the one that layout auto takes first.

    Raises:
        UserError: they differ from scipy's in any cell, or only a part of the table fits.
    """
    from scipy.sparse import csr_matrix

    from pretrain.selection.table.counts import DEFAULT_BUDGET
    from tools.bench import cooccurrence

    counts = one_document(job, "auto")
    if counts.layout == "top_k":
        raise UserError(
            f"--vocabulary {job.vocabulary}: the table does not fit {DEFAULT_BUDGET:,} bytes, and "
            "counting a part of it is another task; use a smaller vocabulary"
        )
    tables: dict[Layout, ShardedCounts] = {}
    if counts.layout == "dense":
        tables["dense"] = counts
        counts = one_document(job, "sparse")
    tables["sparse"] = counts
    expected = cooccurrence.scipy_sparse(job.tokens, job.vocabulary, job.window)
    for layout, found in tables.items():
        start, cols, values = found.table.cells()
        if (csr_matrix((values, cols, start), shape=expected.shape) != expected).nnz:
            raise UserError(f"our counts in layout {layout} differ from scipy's")
    return tables


def query_batches(tokens: np.ndarray) -> list[Documents]:
    """Ten micro-batches of 8 sequences of 512 tokens, cut into sentences of 20 and one of 12."""
    size = SEQUENCES * SEQUENCE_TOKENS
    cuts = np.arange(0, SEQUENCE_TOKENS, SENTENCE_TOKENS)
    starts = np.arange(0, size, SEQUENCE_TOKENS)[:, None] + cuts
    offsets = np.append(starts.ravel(), size)
    return [Documents(batch, offsets) for batch in np.resize(tokens, (BATCHES, size))]


def query_route(counts: ShardedCounts, tokens: np.ndarray) -> Route:
    """Seconds of one micro-batch: the mean of ten different ones."""
    from pretrain.selection.estimators.pointwise import Pointwise, Scorer

    scorer = Scorer(counts, Pointwise())
    batches = query_batches(tokens)
    scorer(batches[0])
    everything = clocked(lambda: [scorer(batch) for batch in batches])
    return lambda: everything() / len(batches)


def baselines(job: Job, folder: Path) -> dict[str, Route]:
    """The other counters; GloVe's, which works in `folder`, where it is on PATH."""
    from tools.bench import cooccurrence

    tokens, size, window = job.tokens, job.vocabulary, job.window
    listed = tokens.tolist()
    routes = {
        "scipy_sparse": clocked(lambda: cooccurrence.scipy_sparse(tokens, size, window)),
        "python_dict": clocked(lambda: cooccurrence.python_dict(listed, window)),
    }
    if program := cooccurrence.find_glove():
        routes["glove_cooccur"] = lambda: cooccurrence.glove_cooccur(
            tokens, size, window, folder, program
        )[1]
    return routes


def label_routes(text: str, words: int) -> dict[str, Route]:
    """Words by labels, our way and scikit-learn's.

    Raises:
        UserError: their counts differ.
    """
    from tools.bench import cooccurrence
    from tools.bench.labels import check_labels, count_labels, labelled_paragraphs

    texts, labels = labelled_paragraphs(text, words)
    check_labels(texts, labels)
    return {
        "our_labels": clocked(lambda: count_labels(texts, labels)),
        "count_vectorizer": clocked(lambda: cooccurrence.count_vectorizer_labels(texts, labels)),
    }


def rank_routes(ranks: TwoRanks, layout: Layout) -> dict[str, Route]:
    """One rank and two."""
    return {
        f"one_rank_{layout}": lambda: ranks.one(layout).seconds,
        f"two_ranks_{layout}": lambda: max(part.seconds for part in ranks.both(layout)),
        f"two_apart_{layout}": lambda: max(part.seconds for part in ranks.apart(layout)),
    }


def measure(text: str, job: Job, rounds: int) -> dict[str, Any]:
    """Check, then time everything in turns.

    Raises:
        UserError: a count is wrong, or a process ended early.
    """
    from pretrain.distributed.cpu import keep_freed_memory
    from tools.bench.selector_summary import machine, plans, summary
    from tools.bench.two_ranks import two_ranks

    keep_freed_memory()
    tables = checked(job)
    layouts = list(tables)
    counts = tables[layouts[0]]
    del tables
    routes = {f"ours_{layout}": clocked(partial(one_document, job, layout)) for layout in layouts}
    routes |= label_routes(text, len(job.tokens))
    routes["query"] = query_route(counts, job.tokens)
    with tempfile.TemporaryDirectory() as folder, two_ranks(job) as ranks:
        routes |= baselines(job, Path(folder))
        for layout in layouts:
            routes |= rank_routes(ranks, layout)
        parts = {layout: ranks.both(layout) for layout in layouts}
        seconds = take_turns(routes, rounds, ROUNDS)
    result = summary(job, layouts[0], seconds, parts, SEQUENCES * SEQUENCE_TOKENS)
    return result | plans(counts.marginals, layouts[0]) | machine()


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        UserError: a size is below 1.
    """
    parser = argparse.ArgumentParser(
        prog="tools.bench.selector", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--corpus", type=path_argument, metavar="FILE", help="UTF-8 text")
    for name, (default, _, text) in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} ({default:,})")
    parser.add_argument(
        "--without-training", action="store_true", help="leave out the share of a training step"
    )
    options = parser.parse_args(argv)
    for name, (_, least, _) in SIZES.items():
        if getattr(options, name) < least:
            raise UserError(f"--{name} is {getattr(options, name)}; use {least:,} or more")
    return options


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All of the benchmark.

    Raises:
        UserError: the corpus cannot be read, a count is wrong, or a process ended early.
    """
    from tools.bench import cooccurrence
    from tools.bench.two_ranks import Job

    text = cooccurrence.natural_corpus(options.corpus)
    tokens = cooccurrence.words_of(text, options.vocabulary, options.tokens)
    result = measure(text, Job(tokens, options.vocabulary, options.window), options.rounds)
    result["corpus"] = "docstrings" if options.corpus is None else options.corpus.name
    if not options.without_training:
        from tools.bench.selection_share import measure_share

        result |= measure_share(tokens, options.vocabulary)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Returns the exit code."""
    try:
        options = arguments(argv)
        result = run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    from tools.bench.selector_summary import in_words

    print(json_text(result) if options.json else in_words(result))
    return 0


if __name__ == "__main__":
    run_program(main)
