"""Baselines of the project, against scikit-learn's own and by hand."""

import json

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from pretrain.ragged import Documents
from tools.baselines.labels import (
    main,
    most_likely,
    over,
    probabilities,
    scores,
    threshold_of,
)

SMOKE = ["--config", "configs/smoke/debtags.yaml", "--run.progress", "false"]


def test_probabilities_are_those_of_scikit_learns_one_vs_rest():
    rng = np.random.default_rng(0)
    texts = [[f"w{word}" for word in rng.integers(0, 30, 12)] for _ in range(80)]
    labels = rng.random((60, 4)) < 0.4
    labels[:, 3] = True  # a label of every text
    sets = Documents.of([np.flatnonzero(row) for row in labels])
    found = probabilities(texts[:60], sets, texts[60:], 4, 3.0, shown=False)
    vectorizer = TfidfVectorizer(analyzer=lambda words: words, sublinear_tf=True)
    model = OneVsRestClassifier(LogisticRegression(C=3.0, solver="liblinear"))
    model.fit(vectorizer.fit_transform(texts[:60]), labels[:, :3].astype(int))
    expected = model.predict_proba(vectorizer.transform(texts[60:]))
    np.testing.assert_allclose(found[:, :3], expected)
    assert (found[:, 3] == 1.0).all()


def test_sets_of_probabilities():
    chances = np.array([[0.9, 0.5, 0.1], [0.4, 0.4, 0.3], [0.0, 0.0, 0.8]])

    def sets(documents: Documents) -> list[list[int]]:
        return [documents.between(d, d + 1).tokens.tolist() for d in range(len(documents))]

    assert sets(over(chances, 0.5)) == [[0, 1], [], [2]]
    assert sets(most_likely(chances, np.array([1, 2, 0]))) == [[0], [0, 1], []]
    assert threshold_of(chances, 1.0) == 0.5
    assert threshold_of(chances, 9.0) == 0.0
    found = scores(chances, Documents.of([[0], [1], [2]]), 1.0)
    assert found["micro_f1"] == pytest.approx(2 * 2 / (3 + 3))
    assert found["micro_f1_at_true_length"] == pytest.approx(2 / 3)
    assert found["predicted_length_at_length"] == 1.0
    assert found["micro_f1_3plus"] == 0.0  # there is no such text


def test_the_smoke_configuration_has_a_baseline(capsys):
    assert main([*SMOKE, "--data.minimum_documents", "300", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["texts"].startswith("cut to ")
    assert 0.4 < report["metrics"]["micro_f1"] < report["metrics"]["micro_f1_at_true_length"] < 1
    assert main([*SMOKE, "--data.minimum_documents", "300", "--whole-text"]) == 0
    assert "training texts whole" in capsys.readouterr().out


def test_a_chain_sees_what_comes_before_it():
    rng = np.random.default_rng(1)
    texts = [[f"w{word}" for word in rng.integers(0, 30, 12)] for _ in range(120)]
    first = np.array(["w3" in text or "w7" in text for text in texts])
    true = np.stack(
        [rng.random(120) < 0.5, first, first], axis=1
    )  # the last one follows the second
    sets = Documents.of([np.flatnonzero(row) for row in true[:90]])
    alone = probabilities(texts[:90], sets, texts[90:], 3, 1.0, shown=False)
    chain = probabilities(texts[:90], sets, texts[90:], 3, 1.0, shown=False, order=(1, 2, 0))
    np.testing.assert_allclose(chain[:, 1], alone[:, 1])
    assert not np.allclose(chain[:, 2], alone[:, 2])
    said = alone[:, 1] >= 0.5
    assert ((chain[:, 2] >= 0.5) == said).mean() >= ((alone[:, 2] >= 0.5) == said).mean()


def test_a_threshold_is_fitted_on_other_texts():
    chances = np.array([[0.9, 0.4, 0.1], [0.4, 0.4, 0.3]])
    development = (np.array([[0.45, 0.35, 0.1]]), Documents.of([[0, 1]]))
    found = scores(chances, Documents.of([[0, 1], [0]]), 1.5, development)
    assert found["threshold"] == pytest.approx((0.35 + 0.1) / 2)
    assert found["predicted_length_calibrated"] == 2.5
    assert found["micro_f1_calibrated"] == pytest.approx(2 * 3 / (5 + 3))
    assert found["precision_at_1"] == 1.0


def test_a_chain_needs_an_order(capsys):
    chain = [*SMOKE, "--data.minimum_documents", "300", "--chain"]
    assert main([*chain, "--selection.estimator", "pmi"]) == 2
    assert "--chain needs one order of all labels" in capsys.readouterr().err
    assert main([*chain, "--data.development_fraction", "0.1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["baseline"].endswith("a chain ordered by max_mi")
    metrics = report["metrics"]
    assert 0.4 < metrics["micro_f1_calibrated"] < metrics["micro_f1_at_true_length"]


def test_what_makes_no_sense_is_refused(capsys):
    assert main(["--config", "configs/smoke/multiplication.yaml"]) == 2
    assert "data.task arithmetic: this is the baseline of multilabel" in capsys.readouterr().err
    assert main([*SMOKE, "--strength", "0"]) == 2
    assert "--strength 0.0: expected a number above 0" in capsys.readouterr().err
