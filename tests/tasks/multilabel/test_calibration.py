"""One threshold for all: against trying every one, against decoding with a bias, on any layout."""

import json
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import coverage_error, f1_score, ndcg_score

from pretrain.config import load_config
from pretrain.distributed import topology
from pretrain.errors import ConfigError
from pretrain.ragged import Documents
from pretrain.selection.selector import Selection
from pretrain.tasks.multilabel.calibration import (
    RankingSums,
    above,
    best_threshold,
    first_of,
    has_label,
)
from pretrain.tasks.multilabel.config import MultilabelData
from pretrain.tasks.multilabel.data import Multilabel, split
from pretrain.tasks.multilabel.selection import LabelSelector
from pretrain.tasks.multilabel.task import MultilabelTask
from pretrain.testing.processes import run_gang

LABELS = ("bird", "cat", "dog", "eel", "fox")


def micro_f1(scores: np.ndarray, actual: Documents, threshold: float) -> float:
    # One column would be read as the two classes of a binary problem.
    true = has_label(actual, scores.shape[1]).ravel()
    return f1_score(true, (scores > threshold).ravel(), zero_division=0.0)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
@example(65455)  # one label alone
def test_no_threshold_has_a_better_micro_f1(seed):
    rng = np.random.default_rng(seed)
    texts, labels = rng.integers(1, 6, 2)
    scores = rng.integers(-3, 4, (texts, labels)) / 2.0
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    actual = Documents.of([np.flatnonzero(row) for row in rng.random(scores.shape) < 0.4])
    found = best_threshold(scores, actual, -1.0)
    assert found >= -1.0
    tried = [t for t in (-1.0, -0.75, -0.25, 0.25, 0.75, 1.25, 2.0) if t >= -1.0]
    best = max(micro_f1(scores, actual, t) for t in tried)
    assert micro_f1(scores, actual, found) == pytest.approx(best)


def test_a_threshold_lies_between_two_scores():
    scores = np.array([[0.9, 0.6, 0.2], [0.8, 0.3, 0.1]])
    actual = Documents.of([[0, 1], [0]])
    assert best_threshold(scores, actual, 0.0) == pytest.approx(0.45)
    assert best_threshold(scores, Documents.of([[0, 1, 2], [0, 1, 2]]), 0.0) == pytest.approx(0.05)
    # Nothing is right: nothing is predicted.
    assert not len(above(scores, best_threshold(scores, Documents.of([[], []]), 0.0)).tokens)
    assert best_threshold(np.full((1, 2), -np.inf), Documents.of([[0]]), -4.0) == -4.0


def test_rankings_are_scored_as_scikit_learn_does():
    rng = np.random.default_rng(0)
    scores = rng.random((20, 7))
    true = rng.random((20, 7)) < 0.3
    true[:3] = False
    some = true.any(axis=1)
    parts = [
        RankingSums.of(scores[part], Documents.of([np.flatnonzero(row) for row in true[part]])).sums
        for part in (slice(0, 8), slice(8, 20))
    ]
    found = {metric.name: metric.value for metric in RankingSums(parts[0] + parts[1]).metrics()}
    assert found["ndcg"] == pytest.approx(ndcg_score(true[some], scores[some]))
    assert found["coverage_error"] == pytest.approx(coverage_error(true[some], scores[some]))
    top = np.argsort(-scores[some], axis=1)[:, :3]
    right = np.take_along_axis(true[some], top, axis=1).mean()
    assert found["precision_at_3"] == pytest.approx(right)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """150 texts of some words, with 0 to 4 of 5 labels."""
    rng = np.random.default_rng(3)
    lines = []
    for number in range(150):
        labels = rng.choice(LABELS, rng.integers(0, 5), replace=False).tolist()
        text = " ".join(
            [*labels[:2], *rng.choice(["a", "big", "old", "red"], 3), f"x{number // 2}"]
        )
        lines.append(json.dumps({"text": text, "labels": labels}))
    path = tmp_path_factory.mktemp("corpus") / "texts.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def make_config(path, parallel=None, **data):
    return load_config(
        None,
        {
            "model": {"layers": 4, "hidden_size": 32, "init_std": 0.3, "sequence_length": 20},
            "parallel": parallel or {},
            "data": {"task": "multilabel", "path": path, "minimum_documents": 5,
                     "test_fraction": 0.2, "development_fraction": 0.25, **data},
            "selection": {"strategy": "ntp"},
            "optimizer": {"warmup_steps": 1},
            "training": {"steps": 4, "global_batch": 8, "evaluation_batch": 10, "micro_batch": 2},
            "run": {"progress": False},
        },
    )  # fmt: skip


def test_development_texts_are_on_no_other_side(corpus):
    whole = Multilabel(make_config(corpus, development_fraction=0.0))
    parted = Multilabel(make_config(corpus))
    assert not len(whole.development)
    assert len(parted.train) + len(parted.development) == len(whole.train)
    assert len(parted.test) == len(whole.test)
    sides = split(MultilabelData.of(make_config(corpus)))
    texts = [{example.text for example in side} for side in sides]
    assert len(set.union(*texts)) == sum(map(len, texts))
    assert "to calibrate on" in str(parted)
    with pytest.raises(ConfigError, match=r"data\.development_fraction 0\.999 takes all"):
        Multilabel(make_config(corpus, development_fraction=0.999))


def evaluate(path, parallel):
    """The scores of an untrained model, and what it writes of the held-out texts."""
    config = make_config(path, parallel)
    task = MultilabelTask(config)
    with topology.start(config) as here:
        from pretrain.inference.forward import Forward
        from pretrain.model.gpt import build
        from pretrain.training.engine import Engine

        engine = Engine(
            config, here, build(config, here, config.vocabulary_size(task.tokenizer.size))
        )
        selector = LabelSelector(Selection("ntp", tuple(range(5)), LABELS))
        schedule = types.SimpleNamespace(current=selector)
        evaluator = task.evaluator(Forward(here, engine.deepspeed.module), schedule)
        values = evaluator.run(selector).values
        test = task.dataset.test
        evaluator.share = len(test)
        found = evaluator.rank(test, len(test))
        written = evaluator.write(test.source), evaluator.write(test.source, test.target.lengths)
    prefixes = (
        first_of(found.labels, (found.leads > 0.0).sum(axis=1)),
        first_of(found.labels, test.target.lengths),
    )
    same = [
        one.tokens.tolist() == other.tokens.tolist()
        and one.lengths.tolist() == other.lengths.tolist()
        for one, other in zip(prefixes, written, strict=True)
    ]
    return values, same, found


def by_hand(path, bias: float):
    """Sets of each held-out text with a bias on the end, and each label's largest probability up to
    the end without it."""
    config = make_config(path)
    task = MultilabelTask(config)
    dataset, sets, chances = task.dataset, [], []
    with topology.start(config) as here, torch.no_grad():
        from pretrain.model.gpt import build

        model = build(config, here, config.vocabulary_size(task.tokenizer.size))[0].eval()
        prompts, lengths = dataset.prompts(dataset.test.source)
        ids = [
            *range(dataset.first_label, dataset.first_label + 5),
            task.tokenizer.special("<end>"),
        ]
        for prompt, length in zip(prompts, lengths, strict=True):
            tokens = torch.from_numpy(prompt[:length])[None]
            own: list[int] = []
            best = torch.zeros(5)
            biased = plain = True
            written: list[int] = []
            while len(written) < dataset.longest:
                logits = model(tokens, torch.arange(tokens.size(1))[None], None)[0, -1][ids].float()
                if plain:
                    best = torch.maximum(best, logits.softmax(0)[:5])
                left = logits[:5].clone()
                left[written] = -torch.inf
                label = int(left.argmax())
                plain = plain and bool(left[label] > logits[5])
                biased = biased and bool(left[label] > logits[5] + bias)
                if biased:
                    own.append(label)
                written.append(label)
                tokens = torch.cat([tokens, torch.tensor([[ids[label]]])], dim=1)
            sets.append(sorted(own))
            chances.append(best.numpy())
    return sets, np.stack(chances)


LAYOUTS = [{"tensor": 2, "sequence_parallel": True}, {"pipeline": 2}, {"zero_stage": 3}]
BIASES = (-1.5, 0.0, 1.0)


@pytest.fixture(scope="module")
def found(corpus):
    one = run_gang(1, [(evaluate, corpus, {}), *((by_hand, corpus, bias) for bias in BIASES)])
    return one, run_gang(2, [(evaluate, corpus, layout) for layout in LAYOUTS])


@pytest.mark.distributed
def test_one_decoding_tells_what_every_bias_writes(found):
    (values, same, written), *expected = [each[0] for each in found[0]]
    assert same == [True, True]
    sizes = set()
    for bias, (sets, chances) in zip(BIASES, expected, strict=True):
        ours = above(written.leads, bias)
        assert [part.tolist() for part in np.split(ours.tokens, ours.offsets[1:-1])] == sets
        np.testing.assert_allclose(written.chances, chances, rtol=1e-4)
        sizes.add(sum(map(len, sets)))
    assert len(sizes) == 3
    assert -4.0 <= values["end_bias"] <= 4.0


@pytest.mark.distributed
def test_calibrated_scores_are_the_same_on_every_layout(found):
    one, two = found
    values = one[0][0][0]
    assert {"micro_f1_calibrated", "macro_f1_threshold", "ndcg", "end_bias"} <= set(values)
    for layout, ranks in zip(LAYOUTS, two, strict=True):
        for other, same, _ in ranks:
            assert same == [True, True], layout
            assert other == pytest.approx(values, rel=1e-4), layout
