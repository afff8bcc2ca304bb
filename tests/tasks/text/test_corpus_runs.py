"""Prepared corpora in a job: trained, stopped, resumed elsewhere, scored by source."""

import copy
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from pretrain.config import load_config
from pretrain.distributed import topology
from pretrain.distributed.ranks import discover
from pretrain.errors import UserError
from pretrain.selection.schedule import SelectionSchedule
from pretrain.tasks.text.task import CorpusTask
from pretrain.testing.processes import call_on
from pretrain.training.checkpoint.manifest import read_manifest
from tests.data.corpora import LETTERS, made_up, save_letters, write_corpus
from tools.show_batch import show

STEPS, HALF = 6, 3
BLEND = {"web": 0.6, "books": 0.3, "code": 0.1}


def make_config(folder: Path, directory: str, blend: dict[str, float], resume: str, **sections):
    return load_config(
        None,
        {
            "model": {"hidden_size": 32, "layers": 1, "sequence_length": 32, "init_std": 0.2},
            "data": {
                "task": "corpus",
                "blend": [f"{folder / name}:{weight}" for name, weight in blend.items()],
                "tokenizer": folder / "letters.json",
                "split": "80,10,10",
                **sections.pop("data", {}),
            },
            "selection": {
                "strategy": "max_mi",
                "minimum_count": 1,
                "fit_tokens": 10_000,
                **sections.pop("selection", {}),
            },
            "optimizer": {"warmup_steps": 1, "learning_rate": 0.01},
            "training": {"global_batch": 8, "steps": STEPS, "evaluation_examples": 5},
            "checkpoint": {"save_every": HALF, "keep_last": 0, "resume": resume},
            "run": {"directory": folder / directory, "log_every": 1, "progress": False},
            **sections,
        },
    )


def run(*arguments, **sections) -> int:
    from pretrain.training import job

    return job.run(make_config(*arguments, **sections), discover())


def losses(folder: Path) -> dict[int, float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpora")
    save_letters(folder)
    for seed, name in enumerate((*BLEND, "new")):
        write_corpus(folder / name, made_up(300, seed))
    return folder


@pytest.fixture(scope="module")
def whole(corpora) -> Path:
    """A run on two ranks that was not interrupted."""
    assert call_on(2, run, corpora, "whole", BLEND, "never") == [0, 0]
    return corpora / "whole"


@pytest.mark.distributed
def test_another_number_of_ranks_goes_on_with_the_same_losses(corpora, whole):
    half = whole / "checkpoints" / f"step-{HALF:08d}"
    assert run(corpora, "resumed", BLEND, str(half)) == 0
    expected, found = losses(whole), losses(corpora / "resumed")
    assert sorted(found) == list(range(HALF + 1, STEPS + 1))
    assert found == pytest.approx({step: expected[step] for step in found}, rel=1e-5)
    first, second = (
        json.loads((folder / "result.json").read_text()) for folder in (whole, corpora / "resumed")
    )
    # The table of one rank is that of two.
    assert second["fingerprint"] == first["fingerprint"]
    assert second["metrics"] == pytest.approx(first["metrics"], rel=1e-4)


def test_plans_that_are_drawn_go_on_to_the_bit(corpora):
    drawn = {
        "selection": {
            "strategy": "max_mi",
            "minimum_count": 1,
            "plan_candidates": 3,
            "plan_slot": True,
            "plan_share": 0.5,
            "plan_draws": 2,
        }
    }
    assert run(corpora, "drawn", BLEND, "never", **copy.deepcopy(drawn)) == 0
    half = corpora / "drawn" / "checkpoints" / f"step-{HALF:08d}"
    assert run(corpora, "drawn on", BLEND, str(half), **copy.deepcopy(drawn)) == 0
    expected, found = losses(corpora / "drawn"), losses(corpora / "drawn on")
    assert found == {step: expected[step] for step in range(HALF + 1, STEPS + 1)}
    shown = show(corpora / "drawn on", HALF, 0, 1, examples=8)
    texts = [each["text"] for each in shown["shown"]]
    assert any("<plan>" in text and "<blank>" in text for text in texts)
    assert shown["target_tokens"] < 8 * 32  # what is left out is room that does not count


@pytest.mark.distributed
def test_another_blend_goes_on_where_nothing_is_fitted_and_is_announced(corpora, whole, capfd):
    plain = {"selection": {"strategy": "ntp", "fit_tokens": None}}
    assert run(corpora, "plain", BLEND, "never", **plain) == 0
    half = corpora / "plain" / "checkpoints" / f"step-{HALF:08d}"
    capfd.readouterr()
    changed = {"web": 0.5, "new": 0.5}
    assert run(corpora, "changed", changed, str(half), **plain) == 0
    shown = capfd.readouterr().out
    assert f"new:0.5 from step {HALF} on; each source goes on where it stood" in shown
    manifest = json.loads(
        (corpora / "changed" / "checkpoints" / f"step-{STEPS:08d}" / "manifest.json").read_text()
    )
    given = {
        Path(entry["name"]).name: entry["sequences"]
        for entry in manifest["state"]["blend"]["sources"].values()
    }
    assert sum(given.values()) == STEPS * 8
    assert given["new"] == (STEPS - HALF) * 8 // 2
    # A step's sequences are found again, from the checkpoint after it.
    seen = CorpusTask(make_config(corpora, "", changed, "never", **plain)).sampler(
        read_manifest(half).state, HALF
    )
    for step in range(HALF, STEPS):
        found = show(corpora / "changed", step, 0, 1, examples=8)["shown"]
        assert [each["example"] for each in found] == seen.indices(step, 0, 1).tolist()
    with pytest.raises(UserError, match=f"another one up to batch {HALF}"):
        show(corpora / "changed", HALF - 1, 0, 1, examples=8)
    metrics = json.loads((corpora / "changed" / "result.json").read_text())["metrics"]
    assert {"loss/web", "loss/new", "bits_per_byte/web", "bits_per_byte"} <= metrics.keys()
    assert "loss/books" not in metrics
    # A table that was fitted on the old blend is not exchanged silently.
    half = whole / "checkpoints" / f"step-{HALF:08d}"
    with pytest.raises(Exception, match="was trained with selection"):
        run(corpora, "refused", changed, str(half))


def test_scores_of_sources_are_those_of_each_alone_and_add_up(corpora):
    config = make_config(corpora, "scores", {"web": 1, "code": 1}, "never")
    with topology.start(config) as here:
        from pretrain.inference.forward import Forward
        from pretrain.model.gpt import build

        task = CorpusTask(config)
        schedule = SelectionSchedule(config, here, task.fitter, task.sampler({}, 0))
        module = build(config, here, config.vocabulary_size(task.tokenizer.size))
        evaluator = task.evaluator(Forward(here, module), schedule)
        metrics = evaluator.run(schedule.current).values
        assert evaluator.bytes == {
            name: text.tokens for name, text in task.held_out().items()
        }  # a letter is a byte
        sums = {
            name: evaluator._score(evaluator._windows(task.transform, evaluator.chosen, *span))[0]
            for name, span in evaluator.spans.items()
        }
    bits = {name: each.nats.sum() / np.log(2) for name, each in sums.items()}
    for name, count in evaluator.bytes.items():
        assert metrics[f"bits_per_byte/{name}"] == pytest.approx(bits[name] / count)
        assert metrics[f"joint_bits_per_token/{name}"] == pytest.approx(bits[name] / count)
        nats = sums[name].nats.sum() / sums[name].counts.sum()
        assert metrics[f"loss/{name}"] == pytest.approx(nats)
    every = sum(bits.values()) / sum(evaluator.bytes.values())
    assert metrics["bits_per_byte"] == pytest.approx(every)
    assert metrics["joint_bits_per_token"] == pytest.approx(every)


@pytest.mark.parametrize("mask", [True, False])
def test_a_documents_loss_depends_on_its_neighbour_only_without_the_mask(corpora, tmp_path, mask):
    told = made_up(1, seed=9)[0]
    save_letters(tmp_path)
    losses = []
    for seed in (1, 2):
        neighbour = [np.random.default_rng(seed).integers(0, 28, 20).tolist()]
        write_corpus(tmp_path / "c", [*[neighbour, told] * 20, *[told] * 20])
        config = make_config(
            tmp_path,
            "run",
            {"c": 1},
            "never",
            data={"document_mask": mask, "split": "50,50,0"},
            model={"sequence_length": 64, "hidden_size": 32, "layers": 2, "init_std": 0.2},
            selection={"strategy": "ntp", "fit_tokens": None},
        )
        with topology.start(config) as here, torch.no_grad():
            from pretrain.data.batch import positions_of
            from pretrain.model.gpt import build, document_inputs

            task = CorpusTask(config)
            schedule = SelectionSchedule(config, here, task.fitter, task.sampler({}, 0))
            batches = task.batches(schedule, task.sampler({}, 0), here)
            tokens, labels, _, starts, _ = batches.read(0, schedule.current)
            where = positions_of(torch.from_numpy(starts)) if mask else None
            inputs = torch.from_numpy(tokens)
            chunk = build(config, here, config.vocabulary_size(task.tokenizer.size))[0].eval()
            nats = chunk(inputs, **document_inputs(inputs, where), labels=torch.from_numpy(labels))
        losses.append(_of_whole_documents(tokens, nats, sum(map(len, told)), told))
    assert min(map(len, losses)) >= 3
    worst = max((one - other).abs().max() for one, other in zip(*losses, strict=False))
    assert worst < 1e-4 if mask else worst > 1e-2


def _of_whole_documents(tokens, nats, size, told):
    """Losses of the told document wherever it stands whole behind another."""
    found = []
    content = [token for sentence in told for token in sentence]
    for row, row_nats in zip(tokens, nats, strict=True):
        ends = np.flatnonzero(row == LETTERS.special("<end>"))
        for first, last in pairwise(ends):
            if first and row[first + 1 : last].tolist() == content:
                found.append(row_nats[first : first + size])
    return found
