"""Steps whose gradients are not finite update nothing, on any rank, and too many end the run."""

import pytest
import torch

from pretrain import topology
from pretrain.errors import UserError
from pretrain.training.bad_steps import BadSteps
from tests.distributed.layouts import VOCABULARY, Layout, make_config
from tests.training.checkpoint.stretches import batch_at


def train_with(config, steps, bad):
    """Weights after `steps`, of which those in `bad` have a target that counts infinitely much on
    the first data rank; and which were skipped."""
    with topology.start(config) as here:
        from pretrain.model.gpt import build
        from pretrain.training.checkpoint.shards import shards_of, updates_of
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
        return skipped, state, updates_of(engine)


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
def test_a_bad_step_leaves_everything_as_it_was_on_all_ranks(layout, gangs):
    config = make_config(layout)
    disturbed = gangs.call(layout.ranks, train_with, config, [0, 1, 2, 3, 4], {1, 3})
    undisturbed = gangs.call(layout.ranks, train_with, config, [0, 2, 4], set())
    for (skipped, state, updates), (_, expected, _) in zip(disturbed, undisturbed, strict=True):
        assert skipped == [0.0, 1.0, 0.0, 1.0, 0.0]
        assert updates == 3
        assert all(torch.equal(state[name], part) for name, part in expected.items())


def test_bad_steps_are_named_once_and_counted(capsys):
    steps = BadSteps(3, speaks=True)
    for step, flag in enumerate((0.0, 1.0, 1.0, 0.0)):
        steps.add(step, torch.tensor(flag))
    assert steps.read() == [1, 2]
    assert "not finite in step(s) 1, 2: nothing was updated" in capsys.readouterr().err
    steps.add(4, torch.tensor(0.0))
    assert steps.read() == []
    assert capsys.readouterr().err == ""


def test_too_many_in_a_row_end_the_run_across_logged_steps():
    steps = BadSteps(3, speaks=False)
    for step in (5, 6):
        steps.add(step, torch.tensor(1.0))
    assert steps.read() == [5, 6]
    steps.add(7, torch.tensor(1.0))
    with pytest.raises(UserError, match=r"3 steps in a row, the last is step 7"):
        steps.read()
