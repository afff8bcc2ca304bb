"""Multi-label classification in a job: orders, decoding and its scores, on any layout."""

import json
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.config import load_config
from pretrain.distributed import topology
from pretrain.distributed.ranks import discover
from pretrain.errors import ConfigError, UserError
from pretrain.ragged import Documents, Examples, stream_of
from pretrain.selection.estimators.information import presence_information
from pretrain.selection.orders.labels import SortLabels, natural_order
from pretrain.selection.selector import Selection, from_json
from pretrain.selection.table.counts import Pairs, count_pairs
from pretrain.selection.table.manifest import read_manifest
from pretrain.selection.table.positions import count_positions
from pretrain.tasks.multilabel.data import LabelledExamples
from pretrain.tasks.multilabel.evaluation import DistinctLabels
from pretrain.tasks.multilabel.selection import LabelSelector
from pretrain.tasks.multilabel.task import MultilabelTask
from pretrain.testing.processes import run_gang

LABELS = ("bird", "cat", "dog", "eel", "fox")
SPOKEN = {"bird": "feather", "cat": "purr", "dog": "bark", "eel": "water", "fox": "red"}
FITTED = [
    (strategy, estimator)
    for strategy in ("max_mi", "min_mi")
    for estimator in ("presence", "presence_top", "pmi", "npmi")
]
STRATEGIES = [(name, None) for name in ("ntp", "reverse", "random", "frequency", "fixed")]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """120 texts that name their labels, 0 to 4 of 5, some words over and some missing."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(120):
        labels = rng.choice(LABELS, rng.integers(0, 5), replace=False, p=(0.4, 0.3, 0.1, 0.1, 0.1))
        said = [SPOKEN[label] for label in labels if rng.random() < 0.8]
        text = " ".join(["the", *said, *rng.choice(["a", "big", "old", "red"], 3), f"x{number}"])
        lines.append(json.dumps({"text": text, "labels": labels.tolist()}))
    path = tmp_path_factory.mktemp("corpus") / "texts.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def make_config(path, strategy="max_mi", estimator=None, parallel=None, training=None, **selection):
    selection |= {"strategy": strategy, "minimum_count": 2}
    if estimator is not None:
        selection["estimator"] = estimator
    if strategy == "fixed":
        selection["fixed"] = [3, 1, 4, 0, 2]
    return load_config(
        None,
        {
            "model": {"layers": 4, "hidden_size": 32, "init_std": 0.3, "sequence_length": 20},
            "parallel": parallel or {},
            "data": {"task": "multilabel", "path": path, "minimum_documents": 5,
                     "test_fraction": 0.2},
            "selection": selection,
            "optimizer": {"warmup_steps": 1},
            "training": {"steps": 4, "global_batch": 8, **(training or {})},
            "checkpoint": {"save_final": False},
            "run": {"progress": False, "log_every": 1},
        },
    )  # fmt: skip


def fitted(config, group=None):
    """Task, selection and table."""
    task = MultilabelTask(config)
    return task, *task.fitter.fit_or_load(group, False)


def ordered(config, examples: LabelledExamples) -> Documents:
    task, selection, table = fitted(config)
    return task.fitter.selector(selection, table)(examples.source, examples.target)


@pytest.mark.parametrize("strategy, estimator", [*STRATEGIES, *FITTED])
def test_every_order_comes_back(corpus, strategy, estimator):
    config = make_config(corpus, strategy, estimator)
    task, selection, table = fitted(config)
    selector = task.fitter.selector(selection, table)
    assert bool(selection.order) == (estimator not in ("pmi", "npmi"))
    assert selection.unit_names == LABELS
    assert from_json(selection.to_json()) == selection
    assert f"order of {strategy}" in selection.table()

    @settings(max_examples=25)
    @given(
        st.lists(
            st.tuples(
                st.lists(st.integers(0, task.tokenizer.text.size - 1), max_size=9),
                st.sets(st.integers(0, 4)).map(sorted),
            ),
            max_size=6,
        )
    )
    def comes_back(pairs):
        source, target = (Documents.of([pair[side] for pair in pairs]) for side in (0, 1))
        predicted = selector(source, target)
        restored = natural_order(predicted)
        assert restored.tokens.tolist() == target.tokens.tolist()
        assert restored.offsets.tolist() == target.offsets.tolist()

    comes_back()


def test_orders_are_what_they_say(corpus):
    def order(*arguments):
        return fitted(make_config(corpus, *arguments))[1].order

    task, _, _ = fitted(make_config(corpus))
    train = task.dataset.train
    often = np.bincount(train.target.tokens, minlength=5)
    assert order("ntp") == (0, 1, 2, 3, 4)
    assert order("reverse") == (4, 3, 2, 1, 0)
    assert order("fixed") == (3, 1, 4, 0, 2)
    assert order("frequency") == tuple(np.argsort(-often, kind="stable"))
    assert order("random") == tuple(np.random.default_rng(0).permutation(5))
    examples = Examples(train.source, train.target)
    rows = task.tokenizer.text.size
    table = count_pairs(stream_of(examples, 99), rows, 5, Pairs(presence=True))
    for estimator, reduce in (("presence", "sum"), ("presence_top", "top")):
        bits = presence_information(table, reduce)
        assert order("max_mi", estimator) == tuple(np.argsort(-bits, kind="stable"))
        assert order("min_mi", estimator) == tuple(np.argsort(bits, kind="stable"))


def test_a_text_decides_its_own_order_by_pmi(corpus):
    config = make_config(corpus, "max_mi", "pmi")
    encode = MultilabelTask(config).tokenizer.encode
    examples = LabelledExamples(
        Documents.of([encode("the purr"), encode("the bark")]), Documents.of([[1, 2], [1, 2]])
    )
    assert ordered(config, examples).tokens.tolist() == [1, 2, 2, 1]
    least = make_config(corpus, "min_mi", "pmi")
    assert ordered(least, examples).tokens.tolist() == [2, 1, 1, 2]


def written_at(path, step, rank=0, ranks=1, estimator="pmi", **selection):
    """Texts of a step, and the labels that follow, in order: `path`'s with any_order, annealed
    from step 2 to 6 of 8."""
    window = {"anneal_from": 0.25, "anneal_until": 0.75}
    settings = {**window, **selection}
    config = make_config(path, "any_order", estimator, training={"steps": 8}, **settings)
    task, found, table = fitted(config)
    selector = task.fitter.selector(found, table)
    here = types.SimpleNamespace(reader_rank=rank, data=types.SimpleNamespace(size=ranks))
    batches = task.batches(types.SimpleNamespace(), task.sampler({}, 0), here)
    assert not batches.fields
    dataset = task.dataset
    _, labels, mask, *_ = batches.read(step, selector)
    sets = [[int(t) for t in row[kept > 0][:-1]] for row, kept in zip(labels, mask, strict=True)]
    examples = dataset.train.take(batches.sampler.indices(step, rank, ranks))
    criterion = selector(examples.source, examples.target)
    wanted = np.split(criterion.tokens + dataset.first_label, criterion.offsets[1:-1])
    return sets, [part.tolist() for part in wanted]


@pytest.mark.parametrize("estimator", ["presence", "pmi"])
def test_sets_are_written_in_any_order_and_annealed_to_one(corpus, estimator):
    differ = 0
    for step in range(8):
        sets, criterion = written_at(corpus, step, estimator=estimator, anneal_to="criterion")
        assert [sorted(each) for each in sets] == [sorted(each) for each in criterion]
        differ += sets != criterion
        assert step < 6 or sets == criterion
    assert differ > 3
    sets, _ = written_at(corpus, 7, estimator=estimator, anneal_to="natural")
    assert sets == [sorted(each) for each in sets]
    sets, criterion = written_at(corpus, 7, estimator=estimator)
    assert sets != criterion


def test_sets_are_in_the_same_orders_from_any_number_of_ranks(corpus):
    whole, _ = written_at(corpus, 3, anneal_to="natural", draw="criterion")
    parts = [
        written_at(corpus, 3, rank, 2, anneal_to="natural", draw="criterion")[0] for rank in (0, 1)
    ]
    assert parts[0] + parts[1] == whole


def test_what_sets_cannot_have_of_any_order_is_refused(corpus):
    for decode in ("natural", "criterion"):
        with pytest.raises(ConfigError, match=rf"selection.decode {decode}: a model of data.task"):
            make_config(corpus, "any_order", decode=decode)
    known = "max_mi, min_mi, reverse, random, frequency, fixed"
    message = rf"selection.criterion learned is not known to data.task multilabel; use {known}"
    with pytest.raises(ConfigError, match=message):
        make_config(corpus, "any_order", criterion="learned")
    with pytest.raises(
        ConfigError, match=r"selection.criterion frequency is not known to data.task"
    ):
        load_config(None, {"selection": {"strategy": "any_order", "criterion": "frequency"}})
    config = make_config(corpus, "any_order")
    assert config.selection.decoding == "adaptive"
    assert not config.asks_units


def test_many_labels_are_shown_in_part():
    names = tuple(f"label{number}" for number in range(200))
    order = tuple(reversed(range(200)))
    bits = tuple(number / 100 for number in range(200))
    shown = Selection("max_mi", order, names, "presence", None, bits, 1000).table()
    assert len(shown.splitlines()) == 1 + 10 + 1 + 5 + 1
    assert "  199  label199   1.9900 bits" in shown
    assert "... 185 more ..., label4, label3, label2, label1, label0" in shown


def test_what_does_not_belong_is_refused(corpus, tmp_path):
    config = make_config(corpus, "fixed")
    settings = config.selection.model_copy(update={"fixed": (1, 0)})
    with pytest.raises(ConfigError, match=r"selection.fixed orders 2 labels, but 5 are kept"):
        MultilabelTask(config.model_copy(update={"selection": settings}))
    task = MultilabelTask(make_config(corpus))
    digits = np.zeros((3, 2), dtype=np.int64)
    with pytest.raises(UserError, match="holds no words by labels"):
        task.fitter.select(count_positions(digits, digits, [(0,)], 2))
    table = tmp_path / "table"
    fitted(make_config(corpus, table=table))
    assert fitted(make_config(corpus, table=table))[1].order == fitted(make_config(corpus))[1].order
    with pytest.raises(UserError, match=r"does not belong to this run\n.*estimator"):
        fitted(make_config(corpus, "max_mi", "pmi", table=table))
    with pytest.raises(UserError, match=r"selection.memory_gb 1e-07"):
        fitted(make_config(corpus, memory_gb=1e-7))


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_no_label_is_written_twice(seed, forced):
    """Labels have the ids 7 to 12, the end is 3; a model that prefers anything at all."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, 7, (5,), generator=generator)
    allow = DistinctLabels(7, 6, 3, 16, counts if forced else None)
    rows = torch.arange(5)
    written = torch.zeros(5, 0, dtype=torch.int64)
    for _ in range(8):
        allowed = allow.allowed(rows, written)
        assert allowed.any(dim=1).all()
        logits = torch.randn(5, 16, generator=generator).masked_fill(~allowed, -torch.inf)
        written = torch.cat([written, logits.argmax(dim=1, keepdim=True)], dim=1)
    for row, count in zip(written.tolist(), counts.tolist(), strict=True):
        labels = row[: row.index(3)]
        assert len(set(labels)) == len(labels)
        assert set(labels) <= set(range(7, 13))
        assert set(row[len(labels) :]) == {3}
        assert not forced or len(labels) == count


def test_sets_are_scored_whatever_their_order(corpus):
    config = make_config(corpus, "reverse")
    task, selection, _ = fitted(config)
    selector, dataset = LabelSelector(selection), task.dataset
    actual = {
        tuple(dataset.prompts(dataset.test.source)[0][i]): dataset.test.target.between(
            i, i + 1
        ).tokens
        for i in range(len(dataset.test))
    }

    def generate(source, units, pad_id, lengths, constraint):
        """Right but for one missing label, last label first; nothing is missing if forced."""
        rows = np.full((len(source), units), pad_id)
        for row, text in zip(rows, source, strict=True):
            labels = actual[tuple(text)][::-1]
            labels = labels[constraint.counts is None :]
            tokens = [*(labels + dataset.first_label), constraint.end_id][:units]
            row[: len(tokens)] = tokens
        return rows

    with topology.start(config) as here:
        from pretrain.inference.forward import Forward

        chunk = torch.nn.Identity()
        chunk.vocab_size = config.vocabulary_size(task.tokenizer.size)
        schedule = types.SimpleNamespace(current=selector)
        evaluator = task.evaluator(Forward(here, torch.nn.ModuleList([chunk])), schedule)
        evaluator._loss = lambda target: 0.5
        evaluator.decoder = types.SimpleNamespace(generate=generate)
        result = evaluator.run(selector)
    lengths = dataset.test.target.lengths
    there, right = lengths.sum(), np.maximum(lengths - 1, 0).sum()
    metrics = result.values
    assert result.headline == "micro_f1"
    assert result.value == pytest.approx(2 * right / (right + there))
    assert metrics["micro_f1_at_true_length"] == 1.0
    assert metrics["subset_accuracy"] == pytest.approx((lengths == 0).mean())
    assert metrics["predicted_length"] == pytest.approx(right / len(lengths))
    assert metrics["actual_length"] == pytest.approx(there / len(lengths))
    many = lengths[lengths >= 3]
    assert metrics["actual_length_3plus"] == pytest.approx(many.mean())
    assert metrics["micro_f1_3plus"] == pytest.approx(2 * (many - 1).sum() / (2 * many - 1).sum())
    sample = result.samples[int(np.flatnonzero(lengths[:12] >= 3)[0])]
    names = sample["target"].split(", ")
    assert sample["prediction"].split(", ") == names[:-1]
    assert sample["raw"].split(", ") == names[:-1][::-1]
    assert sample["correct"] is False
    json.dumps(result.samples)


def decode(path, parallel):
    """What an untrained model writes, free and at given lengths, and the scores."""
    training = {"evaluation_batch": 10, "micro_batch": 2}
    config = make_config(path, parallel=parallel, training=training)
    task = MultilabelTask(config)
    with topology.start(config) as here:
        from pretrain.inference.forward import Forward
        from pretrain.model.gpt import build
        from pretrain.training.engine import Engine

        vocabulary = config.vocabulary_size(task.tokenizer.size)
        engine = Engine(config, here, build(config, here, vocabulary))
        selector = LabelSelector(Selection("reverse", tuple(reversed(range(5))), LABELS))
        schedule = types.SimpleNamespace(current=selector)
        evaluator = task.evaluator(Forward(here, engine.deepspeed.module), schedule)
        result = evaluator.run(selector)
        test = task.dataset.test
        evaluator.share = len(test)
        source, target = test.source, test.target
        sets = [evaluator.write(source), evaluator.write(source, target.lengths)]
    return [(part.tokens.tolist(), part.lengths.tolist()) for part in sets], result.values


def stepwise(path):
    """The same sets, text by text and without any batching, and the loss in reverse order."""
    config = make_config(path)
    task = MultilabelTask(config)
    dataset, found = task.dataset, []
    with topology.start(config) as here, torch.no_grad():
        from pretrain.model.gpt import build

        model = build(config, here, config.vocabulary_size(task.tokenizer.size))[0].eval()
        prompts, lengths = dataset.prompts(dataset.test.source)
        for prompt, length in zip(prompts, lengths, strict=True):
            tokens = torch.from_numpy(prompt[:length])[None]
            allowed = [
                *range(dataset.first_label, dataset.first_label + 5),
                task.tokenizer.special("<end>"),
            ]
            own: list[int] = []
            while len(own) < dataset.longest:
                places = torch.arange(tokens.size(1))[None]
                logits = model(tokens, places, None)[0, -1]
                best = max(allowed, key=lambda token: float(logits[token]))
                if best == allowed[-1]:
                    break
                allowed.remove(best)
                own.append(best - dataset.first_label)
                tokens = torch.cat([tokens, torch.tensor([[best]])], dim=1)
            found.append(own)
        tokens, labels, mask = dataset.sequences(
            dataset.test.source, SortLabels(np.arange(5)[::-1]).apply(dataset.test.target), 20
        )
        inputs, wanted = torch.from_numpy(tokens), torch.from_numpy(labels)
        logits = model(inputs, torch.arange(20).expand_as(inputs), None)
        nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
        loss = float(nats[torch.from_numpy(mask) > 0].mean())
    return found, loss


def run(directory: str, path: Path, arguments: tuple, parallel: dict) -> None:
    from pretrain.training import job

    config = make_config(path, *arguments, parallel=parallel)
    folder = config.run.model_copy(update={"directory": Path(directory)})
    job.run(config.model_copy(update={"run": folder}), discover())


def saved(folder: str, path: Path) -> str:
    """A table fitted and saved by these ranks; the fingerprint of its selection."""
    config = make_config(path, table=folder)
    with topology.start(config) as here:
        assert here.readers is not None
        group = here.readers.group if here.readers.size > 1 else None
        return fitted(config, group)[1].fingerprint


ORDERS = {
    "global": ("max_mi", "presence"),
    "own": ("max_mi", "pmi"),
    "any": ("any_order", "presence"),
    "any of its own": ("any_order", "pmi"),
}
TRAINED = {"dp": {}, "tp": {"tensor": 2}}
DECODED = [
    {"tensor": 2},
    {"tensor": 2, "sequence_parallel": True},
    {"pipeline": 2},
    {"pipeline": 2, "virtual_pipeline": 2},
    {},
    {"zero_stage": 3},
]


@pytest.fixture(scope="module")
def gangs(corpus, tmp_path_factory):
    """What one and two ranks found, and the folder of their runs.

    Starting processes takes longer than what they do, so each number of ranks is started once.
    """
    folder = tmp_path_factory.mktemp("gangs")

    def calls(ranks: int, trained: list[str], decoded: list[dict]) -> list[tuple]:
        return [
            (saved, str(folder / f"table{ranks}"), corpus),
            *((decode, corpus, layout) for layout in decoded),
            *(
                (run, str(folder / f"{order}-{ranks}-{name}"), corpus, arguments, TRAINED[name])
                for order, arguments in ORDERS.items()
                for name in trained
            ),
        ]

    one = run_gang(1, calls(1, ["dp"], [{}]))
    two = run_gang(2, calls(2, ["dp", "tp"], DECODED))
    return one, two, folder


@pytest.mark.distributed
def test_decoding_is_the_same_on_every_layout(corpus, gangs):
    one, two, _ = gangs
    sets, loss = stepwise(corpus)
    expected = Documents.of(sets)
    ((single, metrics),) = one[1]
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
    assert single[0] == (expected.tokens.tolist(), expected.lengths.tolist())
    assert len(set(map(tuple, np.split(expected.tokens, expected.offsets[1:-1])))) > 3
    dataset = MultilabelTask(make_config(corpus)).dataset
    assert single[1][1] == dataset.test.target.lengths.tolist()
    for layout, results in zip(DECODED, two[1 : 1 + len(DECODED)], strict=True):
        for sets, scores in results:
            assert sets == single, layout
            assert scores == pytest.approx(metrics, rel=1e-5), layout


@pytest.mark.distributed
def test_two_ranks_fit_the_table_that_one_fits(gangs):
    one, two, folder = gangs
    assert one[0] * 2 == two[0]
    tables = [read_manifest(folder / f"table{ranks}") for ranks in (1, 2)]
    assert tables[0].fingerprint == tables[1].fingerprint


@pytest.mark.distributed
@pytest.mark.parametrize("order", list(ORDERS))
@pytest.mark.parametrize("layout", list(TRAINED))
def test_two_ranks_train_to_the_losses_of_one(gangs, order, layout):
    folder = gangs[2]

    def losses(name: str) -> list[float]:
        lines = (folder / name / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines]

    assert losses(f"{order}-2-{layout}") == pytest.approx(losses(f"{order}-1-dp"), rel=1e-5)
    result = json.loads((folder / f"{order}-2-{layout}" / "result.json").read_text())
    assert result["headline"] == "micro_f1"
    assert result["examples"] == 24
