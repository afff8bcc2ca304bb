"""Steps whose gradients are not finite update nothing, on any rank, and too many end the run."""

import json

import pytest
import torch

from pretrain.config import load_config
from pretrain.data.skipped import Passed, Stretch, read_passed
from pretrain.distributed import topology
from pretrain.distributed.ranks import discover
from pretrain.errors import ConfigError, UserError
from pretrain.testing.processes import call_on
from pretrain.training.health.rollback import roll_back
from pretrain.training.health.spikes import MINIMUM, WINDOW, SpikeGuard
from pretrain.training.health.step_guard import NOT_FINITE, SPIKE, BadSteps, RollBackError
from tests.distributed.layouts import VOCABULARY, Layout, make_config
from tests.training.checkpoint.stretches import batch_at
from tools.show_batch import show


def train_with(config, steps, bad):
    """Weights after `steps`, of which those in `bad` have a target that counts infinitely much on
    the first data rank; and which were skipped."""
    with topology.start(config) as here:
        from pretrain.model.gpt import build
        from pretrain.optimizers.base import updates_of
        from pretrain.training.checkpoint.shards import shards_of
        from pretrain.training.engine import Engine

        engine = Engine(config, here, build(config, here, VOCABULARY))
        skipped = []
        for step in steps:
            batch = batch_at(step, config, here)
            if step in bad and here.data.rank == 0:
                batch.mask[0, 0] = float("inf")
            skipped.append(float(engine.train_step(batch, 1e-2).skipped))
        state = {
            f"{shard.whole.name} {shard.start} {kind}": part.clone()
            for shard in shards_of(engine)
            for kind, part in shard.parts.items()
        }
        return skipped, state, updates_of(engine.built)


@pytest.mark.distributed
@pytest.mark.parametrize(
    "layout",
    [
        Layout(),
        Layout("TP2-SP"),
        Layout(data=2, zero=1),
        Layout(data=2, zero=2, precision="bf16"),
        Layout(data=2, zero=3),
        Layout(pipeline="PP2", precision="bf16"),
    ],
    ids=str,
)
def test_a_bad_step_leaves_everything_as_it_was_on_all_ranks(layout):
    config = make_config(layout)
    disturbed = call_on(layout.ranks, train_with, config, [0, 1, 2, 3, 4], {1, 3})
    undisturbed = call_on(layout.ranks, train_with, config, [0, 2, 4], set())
    for (skipped, state, updates), (_, expected, _) in zip(disturbed, undisturbed, strict=True):
        assert skipped == [0.0, 1.0, 0.0, 1.0, 0.0]
        assert updates == 3
        assert all(torch.equal(state[name], part) for name, part in expected.items())


def guarded(config, losses_before, jump):
    """Whether a step whose loss jumps is taken, and whether it changes anything."""
    with topology.start(config) as here:
        from pretrain.model.gpt import build
        from pretrain.training.checkpoint.shards import shards_of
        from pretrain.training.engine import Engine

        engine = Engine(config, here, build(config, here, VOCABULARY))
        for number in range(losses_before):
            usual = torch.tensor(3.5 + 0.5 * (number % 5))
            engine.spikes.add(usual, torch.tensor(True))
        before = [p.clone() for shard in shards_of(engine) for p in shard.parts.values()]
        batch = batch_at(0, config, here)
        # Each target counts `jump` times, and so does the loss.
        batch.mask.mul_(jump)
        skipped = float(engine.train_step(batch, 1e-2).skipped)
        after = [p for shard in shards_of(engine) for p in shard.parts.values()]
        same = all(torch.equal(*pair) for pair in zip(before, after, strict=True))
        return skipped, same, engine.small_state()["spikes"]["count"]


@pytest.mark.distributed
@pytest.mark.parametrize(
    "layout", [Layout(data=2, zero=1), Layout("TP2", pipeline="PP2", precision="bf16")], ids=str
)
def test_a_loss_spike_updates_nothing_on_all_ranks(layout):
    config = make_config(layout)
    config.training.spike_zscore = 10.0
    taken = call_on(layout.ranks, guarded, config, MINIMUM, 1.0)
    spike = call_on(layout.ranks, guarded, config, MINIMUM, 10.0)
    early = call_on(layout.ranks, guarded, config, MINIMUM - 1, 10.0)
    assert taken == [(0.0, False, MINIMUM + 1)] * layout.ranks
    assert spike == [(SPIKE, True, MINIMUM)] * layout.ranks
    assert early == [(0.0, False, MINIMUM)] * layout.ranks


def test_what_losses_are_compared_with_goes_on_from_a_checkpoint():
    guard = SpikeGuard(5.0, torch.device("cpu"))
    for number in range(WINDOW + 10):
        guard.add(torch.tensor(1.0 + 0.1 * (number % 3)), torch.tensor(number % 7 != 0))
    again = SpikeGuard(5.0, torch.device("cpu"))
    again.restore(json.loads(json.dumps(guard.state())))
    for loss in (1.0, 1.2, 1.9, 5.0, float("nan")):
        value = torch.tensor(loss)
        assert bool(again.is_spike(value)) == bool(guard.is_spike(value)) == (loss > 1.8)
    assert again.state() == guard.state()


def test_spikes_are_refused_where_deepspeed_steps_alone():
    for section in (
        {"parallel": {"zero_stage": 3}},
        {"parallel": {"zero_stage": 1, "offload": "optimizer"}},
        {"training": {"precision": "fp16"}},
    ):
        training = {**section.pop("training", {}), "spike_zscore": 8.0}
        with pytest.raises(ConfigError, match=r"training\.spike_zscore 8\.0 needs parallel"):
            load_config(None, {**section, "training": training})


def add_flags(steps, first, flags):
    for step, flag in enumerate(flags, start=first):
        steps.add(step, torch.tensor(flag))


def test_bad_steps_are_named_once_and_counted(capsys):
    steps = BadSteps(4, speaks=True)
    add_flags(steps, 0, [0.0, NOT_FINITE, SPIKE, NOT_FINITE, 0.0])
    found = steps.read()
    assert [(bad.step, bad.reason) for bad in found] == [
        (1, "gradients were not finite"),
        (2, "the loss was a spike"),
        (3, "gradients were not finite"),
    ]
    assert capsys.readouterr().err == (
        "warning: gradients were not finite in step(s) 1, 3; the loss was a spike in step(s) 2: "
        "nothing was updated there\n"
    )
    add_flags(steps, 5, [0.0])
    assert steps.read() == []
    assert capsys.readouterr().err == ""
    steps.check()


def test_too_many_in_a_row_end_the_run_across_logged_steps():
    steps = BadSteps(3, speaks=False)
    add_flags(steps, 5, [NOT_FINITE, NOT_FINITE])
    assert len(steps.read()) == 2
    steps.check()
    add_flags(steps, 7, [NOT_FINITE, 0.0])
    steps.read()
    with pytest.raises(UserError, match=r"3 steps in a row, the last is step 7.*--step 5"):
        steps.check()


def poisoned_run(directory, poison, steps):
    """A run in which batches with these tokens are bad; exit code, and what steps saw."""
    from pretrain.training import job
    from pretrain.training.engine import Engine

    seen = []
    usual = Engine.train_step

    def train_step(self, batch, rate):
        key = batch.tokens.numpy().tobytes()
        seen.append(key)
        if key in poison:
            batch.mask[0, -1] = float("inf")
        return usual(self, batch, rate)

    Engine.train_step = train_step
    config = load_config(
        None,
        {
            "model": {"layers": 1, "hidden_size": 16, "sequence_length": 10},
            "optimizer": {"warmup_steps": 1},
            "training": {
                "steps": steps,
                "global_batch": 8,
                "max_bad_steps": 3,
                "on_bad_steps": "roll_back",
                "evaluation_examples": 8,
            },
            "checkpoint": {"save_every": 4},
            "run": {
                "directory": directory,
                "log_every": 1,
                "progress": False,
                "tensorboard": False,
            },
        },
    )
    return job.run(config, discover()), seen


def test_a_run_rolls_back_and_passes_over_the_stretch(tmp_path):
    ((code, all_seen),) = call_on(1, poisoned_run, str(tmp_path / "whole"), set(), 20)
    assert code == 0
    run = tmp_path / "run"
    poison = set(all_seen[6:9])
    ((code, seen),) = call_on(1, poisoned_run, str(run), poison, 12)
    assert code == 75
    assert seen == all_seen[:9]
    assert read_passed(run / "passed.json").stretches == (Stretch(4, 5),)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "step-00000004",
        "step-00000008.passed",
    ]
    bad = [json.loads(line) for line in (run / "bad_steps.jsonl").read_text().splitlines()]
    assert [line["step"] for line in bad] == [6, 7, 8]
    ((code, seen),) = call_on(1, poisoned_run, str(run), poison, 12)
    assert code == 0
    assert seen == all_seen[9:17]
    found = show(run, 4, 0, 1, 1)
    assert found["batch"] == 9
    again = show(tmp_path / "whole", 9, 0, 1, 1)
    assert found["shown"] == again["shown"]


def test_a_run_that_rolls_back_to_the_same_step_again_and_again_ends(tmp_path):
    Passed((Stretch(0, 2),) * 3).save(tmp_path / "passed.json")
    with pytest.raises(UserError, match=r"rolled back to step 0 3 times.*it is not the data"):
        roll_back(tmp_path, RollBackError(1, 4))


def test_without_an_older_checkpoint_the_oldest_serves(tmp_path):
    for step in (6, 8):
        folder = tmp_path / "checkpoints" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        (folder / "manifest.json").touch()
    assert "rolled back to step 6;" in roll_back(tmp_path, RollBackError(3, 9))
    assert read_passed(tmp_path / "passed.json").stretches == (Stretch(6, 3),)
