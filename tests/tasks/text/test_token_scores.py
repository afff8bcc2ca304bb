"""What mi_bag asks of a text: weights of the tokens ahead, from counts of the training text."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from pretrain.config import load_config
from pretrain.data.batch import Sampler
from pretrain.data.loader import BatchFeed
from pretrain.distributed import topology
from pretrain.distributed.ranks import discover
from pretrain.errors import ConfigError
from pretrain.objectives.base import objective_of
from pretrain.planning import Layout
from pretrain.planning.selector import selector_bytes
from pretrain.ragged import Documents
from pretrain.selection.schedule import SelectionSchedule
from pretrain.tasks.text.task import TextTask
from pretrain.testing.processes import call_on

SAMPLE = Path(__file__).parents[3] / "data" / "shakespeare.sample.txt"
WINDOW, LENGTH, BATCH = 4, 40, 6


@pytest.fixture(scope="module")
def play(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("text") / "play.txt"
    path.write_text("\n".join(SAMPLE.read_text().splitlines()[40:400]))
    return str(path)


def make_config(path: str, weighting: str = "pmi", **sections):
    values = {
        "model": {
            "layers": 2,
            "hidden_size": 32,
            "attention_heads": 4,
            "sequence_length": LENGTH,
            "vocabulary_size": 208,
        },
        "data": {"task": "text", "path": path, "vocabulary": 200, "test_fraction": 0.2},
        "selection": {"strategy": "ntp", "minimum_count": 2},
        "objective": {"name": "mi_bag", "window": WINDOW, "weighting": weighting},
        "training": {"global_batch": BATCH, "steps": 6, "evaluation_examples": 3},
        "optimizer": {"warmup_steps": 1, "learning_rate": 0.01},
        **sections,
    }
    return load_config(None, values)


def batches(config, steps: int):
    """What each of the ranks is given, and the scorer."""
    task = TextTask(config)
    with topology.start(config) as here:
        sampler = Sampler(task.examples, BATCH, 0)
        schedule = SelectionSchedule(config, here, task.fitter, sampler)
        objective = objective_of(config)
        feed = BatchFeed(
            task.batches(schedule, sampler, here),
            here,
            BATCH // here.data.size,
            LENGTH,
            range(steps),
            fields=objective.fields,
            per_token=objective.per_token,
            count=objective.count,
        )
        found = [batch for _, batch in feed]
        return found, schedule.current.scorer


def score(scorer, context: list[int], candidate: int) -> float:
    return float(scorer(Documents.of([context]), Documents.of([[candidate]]))[0])


def test_pmi_is_the_sum_over_the_tokens_before_in_the_same_document(play):
    found, scorer = batches(make_config(play), 2)
    crossed = 0
    for batch in found:
        assert batch.fields["pmi"].shape == (BATCH, LENGTH, WINDOW)
        for row in range(BATCH):
            tokens, labels = batch.tokens[row].tolist(), batch.labels[row].tolist()
            document = (batch.positions[row] == 0).cumsum(0).tolist()
            for place in range(LENGTH):
                for ahead in range(WINDOW):
                    there = place + ahead
                    bits = batch.fields["pmi"][row, place, ahead].item()
                    if there >= LENGTH or document[there] != document[place]:
                        crossed += there < LENGTH
                        assert bits == 0.0
                        continue
                    context = [
                        tokens[before]
                        for before in range(max(0, place - WINDOW + 1), place + 1)
                        if document[before] == document[place]
                    ]
                    assert bits == np.float32(score(scorer, context, labels[there]))
    assert crossed, "no document ended within a window"
    assert all((batch.fields["pmi"] > 0).float().mean() > 0.05 for batch in found)


def test_information_is_that_of_the_counted_shares(play):
    config = make_config(play, "information")
    ((batch,), scorer) = batches(config, 1)
    columns, total = scorer.counts.marginals.columns, scorer.counts.marginals.total
    for label, bits in zip(
        batch.labels.ravel().tolist(), batch.fields["information"].ravel().tolist(), strict=True
    ):
        share = columns[label] / total
        assert bits == pytest.approx(-math.log2(share) if share else 0.0, rel=1e-6)
    end = TextTask(config).tokenizer.special("<end>")
    assert not batch.fields["information"][batch.labels == end].any()


def fields_on(config) -> np.ndarray:
    (batch,), _ = batches(config, 1)
    return batch.fields["pmi"].numpy()


@pytest.mark.distributed
def test_any_number_of_readers_has_the_same_to_the_bit(play):
    config = make_config(play)
    (whole,) = call_on(1, fields_on, config)
    assert np.array_equal(np.concatenate(call_on(2, fields_on, config)), whole)


def test_its_table_is_counted_priced_and_not_shared_with_a_strategy(play):
    config = make_config(play)
    assert selector_bytes(Layout(config, 1, 208)) > 0
    assert selector_bytes(Layout(make_config(play, "uniform"), 1, 208)) == 0
    assert TextTask(make_config(play, "uniform")).scores is None
    with pytest.raises(ConfigError, match=r"objective\.weighting pmi .* selection\.strategy ntp"):
        TextTask(make_config(play, selection={"strategy": "max_mi"}))


def run(path: str, directory: str, weighting: str = "pmi", resume: str = "never") -> int:
    from pretrain.training import job

    config = make_config(
        path,
        weighting,
        checkpoint={"save_every": 3, "keep_last": 0, "resume": resume},
        run={"directory": directory, "log_every": 1, "progress": False},
    )
    return job.run(config, discover())


@pytest.mark.distributed
def test_a_run_goes_on_to_the_bit_with_the_table_of_its_checkpoint(play, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert run(play, str(whole)) == 0
    assert run(play, str(resumed), resume=str(whole / "checkpoints" / "step-00000003")) == 0

    def lines(folder: Path) -> list[dict]:
        return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]

    names = ("step", "loss", "loss_next_token", "loss_bag", "grad_norm")
    expected, found = (
        [[line[name] for name in names] for line in lines(folder)] for folder in (whole, resumed)
    )
    assert found == expected[3:]
    for _, loss, nats, bag, _ in expected:
        assert loss == pytest.approx(nats + bag, rel=1e-6)
    results = [json.loads((folder / "result.json").read_text()) for folder in (whole, resumed)]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["fingerprint"] == results[1]["fingerprint"]


@pytest.mark.distributed
def test_scores_are_of_the_next_token_head_alone(play, tmp_path):
    """With a coefficient of 0 the second head changes nothing, and models are scored alike."""
    from pretrain.training import job

    def metrics(folder: str, **objective) -> dict:
        config = make_config(
            play, objective=objective, run={"directory": tmp_path / folder, "progress": False}
        )
        assert job.run(config, discover()) == 0
        return json.loads((tmp_path / folder / "result.json").read_text())["metrics"]

    plain = metrics("plain", name="cross_entropy")
    silent = metrics("silent", name="mi_bag", coefficient=0.0)
    assert "plain_perplexity" in plain
    assert plain == silent
    other = metrics("other", name="top")
    assert abs(other["plain_perplexity"] - plain["plain_perplexity"]) > 1e-4


def test_a_dry_run_makes_up_what_is_asked_for(play, capsys):
    from pretrain.training import job

    job.dry_run(make_config(play), discover())
    shown = capsys.readouterr().out
    assert "name: mi_bag" in shown
    assert "made-up batch: loss" in shown
