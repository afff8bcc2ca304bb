"""Logistic regression on TF-IDF, the baseline of multi-label classification: one-vs-rest, or a
chain of classifiers.

    python -m tools.baselines.labels --config configs/smoke/debtags.yaml [--whole-text] [--json]
    python -m tools.baselines.labels --config configs/smoke/debtags.yaml --chain \
        --selection.strategy frequency

Trained on the training texts of the configuration and scored on its held-out ones, by the same
scores as a model, calibrated on `data.development_fraction` by the same rule. In a chain (Read et
al., 2011), each label's classifier sees what those before it say, in the order of
`selection.strategy`. It sees what a model sees, the tokens to which a text is cut, or whole texts.
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
from pretrain.ragged import Documents, spread
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
    order: Sequence[int] = (),
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
        order: of all labels, for a chain; each label for itself if not given.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.multioutput import ClassifierChain
    except ImportError:
        raise UserError(
            "this baseline needs scikit-learn, which is not installed; run: pip install "
            "scikit-learn"
        ) from None
    vectorizer = TfidfVectorizer(analyzer=lambda words: words, sublinear_tf=True)
    train_rows, test_rows = vectorizer.fit_transform(train), vectorizer.transform(test)
    found = np.zeros((len(test), count))
    if order:
        from pretrain.tasks.multilabel.calibration import has_label

        true = has_label(labels, count)
        found[:, true.all(axis=0)] = 1.0
        chosen = [label for label in order if not true[:, label].all()]
        chain = ClassifierChain(LogisticRegression(C=strength, solver="liblinear"), verbose=False)
        with progress_bar(1, f"chain of {len(chosen)} labels", "chain", shown) as bar:
            chain.fit(train_rows, true[:, chosen].astype(int))
            bar.update()
        found[:, chosen] = chain.predict_proba(test_rows)
        return found
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


def scores(
    chances: np.ndarray,
    actual: Documents,
    length: float,
    development: tuple[np.ndarray, Documents] | None = None,
) -> dict[str, float]:
    """Metrics by the names that a model's have, and others at a given mean length.

    Args:
        chances: [texts, labels] probabilities.
        actual: label numbers of the texts.
        length: labels per text for `_at_length`; of the training texts, so that nothing is taken
            from the held-out labels.
        development: probabilities and labels of the texts that `_calibrated` is fitted on.
    """
    from pretrain.tasks.multilabel.calibration import RankingSums, above, best_threshold
    from pretrain.tasks.multilabel.scores import MANY, count_labels

    ways = {
        "": over(chances, THRESHOLD),
        "_at_length": over(chances, threshold_of(chances, length)),
        "_at_true_length": most_likely(chances, actual.lengths),
    }
    found: dict[str, float] = {}
    if development is not None:
        found["threshold"] = best_threshold(*development, 0.0)
        ways["_calibrated"] = above(chances, found["threshold"])
    for way, predicted in ways.items():
        whole = LabelledExamples(predicted, actual)
        many = whole.take(np.flatnonzero(actual.lengths >= MANY))
        for suffix, pairs in (("", whole), (f"_{MANY}plus", many)):
            counts = count_labels(pairs.source, pairs.target, chances.shape[1])
            found |= {f"{name}{way}{suffix}": value for name, value in _shown(counts, way).items()}
    ranking = RankingSums.of(chances, actual).metrics()
    return found | {metric.name: metric.value for metric in ranking}


def _shown(counts: LabelCounts, way: str) -> dict[str, float]:
    """Every score at a fixed threshold; F1 and length at a given length."""
    metrics = {metric.name: metric.value for metric in counts.metrics()}
    if way in ("", "_calibrated"):
        return metrics
    return {name: metrics[name] for name in ("micro_f1", "macro_f1", "predicted_length")}


def run(
    config: Config, strength: float, whole_text: bool, shown: bool, chain: bool = False
) -> dict[str, Any]:
    """Train and score on the texts of a configuration. Returns what is printed.

    Raises:
        ConfigError: a chain needs one order of all labels, and `selection` has none.
    """
    started = time.perf_counter()
    task = Multilabel(config)
    order = _order(config) if chain else ()
    words: list[list[Sequence[Any]]]
    if whole_text:
        words = [
            [split_words(example.text) for example in side]
            for side in split(MultilabelData.of(config))
        ]
    else:
        words = [_tokens(each.source) for each in (task.train, task.development, task.test)]
    test = task.test.spread(config.training.evaluation_examples)
    scored = spread(len(task.test), config.training.evaluation_examples)
    chances = probabilities(
        words[0],
        task.train.target,
        [*words[1], *(words[2][number] for number in scored)],
        len(task.label_names),
        strength,
        shown,
        order,
    )
    aside = len(task.development)
    development = (chances[:aside], task.development.target) if aside else None
    kind = f"a chain ordered by {config.selection.strategy}" if chain else "one-vs-rest"
    length = float(task.train.target.lengths.mean())
    return {
        "baseline": f"logistic regression on TF-IDF, {kind}",
        "texts": "whole" if whole_text else f"cut to {task.text_tokens} tokens",
        "strength": strength,
        "train": len(task.train),
        "examples": len(test),
        "labels": len(task.label_names),
        "label_coverage": task.coverage,
        "metrics": scores(chances[aside:], test.target, length, development),
        "seconds": time.perf_counter() - started,
    }


def _order(config: Config) -> Sequence[int]:
    """Of all labels, as the selection of a configuration has it."""
    from pretrain.tasks.multilabel.task import MultilabelTask

    task = MultilabelTask(config)
    selection, _ = task.fitter.fit(None)
    if not selection.order or config.selection.any_order:
        raise ConfigError(
            f"--chain needs one order of all labels, and selection.strategy "
            f"{config.selection.strategy} with selection.estimator {config.selection.estimator} "
            "has one for each text; use estimator presence, or ntp or frequency"
        )
    return selection.order


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
    parser.add_argument(
        "--chain",
        action="store_true",
        help="a chain of classifiers, in the order of selection.strategy",
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
        report = run(
            config, options.strength, options.whole_text, config.run.progress, options.chain
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json_text(report) if options.json else _text(report))
    return 0


if __name__ == "__main__":
    run_program(main)
