"""One-vs-rest logistic regression on TF-IDF, the baseline of multi-label classification.

    python -m tools.baselines.labels --config configs/smoke/debtags.yaml [--whole-text] [--json]

Trained on the training texts of the configuration and scored on its held-out ones, by the same
scores as a model. It sees what a model sees, the tokens to which a text is cut, or whole texts.
Needs scikit-learn: pip install scikit-learn.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pretrain.config import Config, parse_arguments
from pretrain.console import run_program
from pretrain.data.tokenizers import split_words
from pretrain.errors import ConfigError, UserError
from pretrain.files import json_text
from pretrain.progress import progress_bar
from pretrain.ragged import Documents
from pretrain.tasks.multilabel.config import MultilabelData
from pretrain.tasks.multilabel.data import LabelledExamples, Multilabel, split

if TYPE_CHECKING:
    from pretrain.tasks.multilabel.scores import LabelCounts

THRESHOLD = 0.5


def probabilities(
    train: Sequence[Sequence[Any]],
    labels: Documents,
    test: Sequence[Sequence[Any]],
    count: int,
    strength: float,
    shown: bool = True,
) -> np.ndarray:
    """[test texts, labels] probability that a text has a label, by logistic regression on TF-IDF.

    Words are weighted by 1 + ln(count) times ln((1 + n) / (1 + df)) + 1, rows have length 1.

    Args:
        train: words of each training text.
        labels: label numbers of each.
        test: words of each held-out text.
        count: number of labels.
        strength: inverse of the strength of the L2 penalty (C).
        shown: whether to show a progress bar.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise UserError(
            "this baseline needs scikit-learn, which is not installed; run: pip install "
            "scikit-learn"
        ) from None
    vectorizer = TfidfVectorizer(analyzer=lambda words: words, sublinear_tf=True)
    train_rows, test_rows = vectorizer.fit_transform(train), vectorizer.transform(test)
    found = np.zeros((len(test), count))
    of = np.repeat(np.arange(len(labels)), labels.lengths)
    with progress_bar(count, "logistic regression", "label", shown) as bar:
        for label in range(count):
            has = np.zeros(len(labels), dtype=bool)
            has[of[labels.tokens == label]] = True
            if has.all():
                found[:, label] = 1.0
            else:
                model = LogisticRegression(C=strength, solver="liblinear")
                found[:, label] = model.fit(train_rows, has).predict_proba(test_rows)[:, 1]
            bar.update()
    return found


def over(chances: np.ndarray, threshold: float) -> Documents:
    """Labels of each text whose probability is `threshold` or more."""
    return Documents.of([np.flatnonzero(row >= threshold) for row in chances])


def most_likely(chances: np.ndarray, counts: np.ndarray) -> Documents:
    """The `counts` [texts] most likely labels of each text; ties go to the lower number."""
    order = np.argsort(-chances, axis=1, kind="stable")
    return Documents.of([row[:count] for row, count in zip(order, counts, strict=True)])


def threshold_of(chances: np.ndarray, length: float) -> float:
    """The threshold by which a text gets `length` labels on average."""
    kept = min(chances.size, max(1, round(length * len(chances))))
    return float(np.partition(chances.ravel(), -kept)[-kept])


def scores(chances: np.ndarray, actual: Documents, length: float) -> dict[str, float]:
    """Metrics by the names that a model's have, and others at a given mean length.

    Args:
        chances: [texts, labels] probabilities.
        actual: label numbers of the texts.
        length: labels per text for `_at_length`; of the training texts, so that nothing is taken
            from the held-out labels.
    """
    from pretrain.tasks.multilabel.scores import MANY, count_labels

    ways = {
        "": over(chances, THRESHOLD),
        "_at_length": over(chances, threshold_of(chances, length)),
        "_at_true_length": most_likely(chances, actual.lengths),
    }
    found: dict[str, float] = {}
    for way, predicted in ways.items():
        whole = LabelledExamples(predicted, actual)
        many = whole.take(np.flatnonzero(actual.lengths >= MANY))
        for suffix, pairs in (("", whole), (f"_{MANY}plus", many)):
            counts = count_labels(pairs.source, pairs.target, chances.shape[1])
            found |= {f"{name}{way}{suffix}": value for name, value in _shown(counts, way).items()}
    return found


def _shown(counts: LabelCounts, way: str) -> dict[str, float]:
    """Every score at the threshold; micro-F1 and length otherwise."""
    metrics = {metric.name: metric.value for metric in counts.metrics()}
    if not way:
        return metrics
    return {name: metrics[name] for name in ("micro_f1", "predicted_length")}


def run(config: Config, strength: float, whole_text: bool, shown: bool) -> dict[str, Any]:
    """Train and score on the texts of a configuration. Returns what is printed."""
    started = time.perf_counter()
    task = Multilabel(config)
    words: list[list[Sequence[Any]]]
    if whole_text:
        words = [
            [split_words(example.text) for example in side]
            for side in split(MultilabelData.of(config))
        ]
    else:
        words = [_tokens(task.train.source), _tokens(task.test.source)]
    test = task.test.spread(config.training.evaluation_examples)
    chances = probabilities(
        words[0],
        task.train.target,
        words[1][: len(test)],
        len(task.label_names),
        strength,
        shown,
    )
    length = float(task.train.target.lengths.mean())
    return {
        "baseline": "one-vs-rest logistic regression on TF-IDF",
        "texts": "whole" if whole_text else f"cut to {task.text_tokens} tokens",
        "strength": strength,
        "train": len(task.train),
        "examples": len(test),
        "labels": len(task.label_names),
        "label_coverage": task.coverage,
        "metrics": scores(chances, test.target, length),
        "seconds": time.perf_counter() - started,
    }


def _tokens(documents: Documents) -> list[Sequence[Any]]:
    parts = np.split(documents.tokens, documents.offsets[1:-1])
    return [part.tolist() for part in parts[: len(documents)]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the baseline."""
    parser.add_argument(
        "--whole-text", action="store_true", help="every word, not only what a model sees"
    )
    parser.add_argument(
        "--strength",
        type=float,
        default=10.0,
        help="inverse of the strength of the L2 penalty, above 0 (10)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _text(report: dict[str, Any]) -> str:
    metrics = report["metrics"]
    width = max(map(len, metrics))
    return "\n".join(
        [
            f"{report['baseline']}, {report['train']:,} training texts {report['texts']}, "
            f"{report['labels']} labels, C = {report['strength']:g}",
            *(f"  {name:<{width}}  {value:8.4f}" for name, value in metrics.items()),
            f"over {report['examples']:,} held-out texts, {report['seconds']:.0f} s",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Train, score, print. Returns the exit code."""
    try:
        config, options = parse_arguments(
            list(sys.argv[1:] if argv is None else argv), "tools.baselines.labels", add_options
        )
        if not isinstance(config.data, MultilabelData):
            raise ConfigError(
                f"data.task {config.data.task}: this is the baseline of multilabel; give a "
                "configuration such as configs/smoke/debtags.yaml"
            )
        if not options.strength > 0.0:
            raise ConfigError(f"--strength {options.strength}: expected a number above 0")
        report = run(config, options.strength, options.whole_text, config.run.progress)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json_text(report) if options.json else _text(report))
    return 0


if __name__ == "__main__":
    run_program(main)
