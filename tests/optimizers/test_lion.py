"""Lion is the update of its paper, in every layout, and goes on from a checkpoint."""

import pytest
import torch

from pretrain.config import Config, load_config
from pretrain.distributed import topology
from pretrain.errors import ConfigError
from pretrain.optimizers.base import optimizer_of, updates_of
from pretrain.planning.layout import Layout as Planned
from pretrain.planning.memory import memory_of
from pretrain.testing.processes import call_on
from tests.distributed.layouts import VOCABULARY, Layout, make_config
from tests.training.checkpoint.stretches import batch_at, state_in, stretch

RATE, BETAS, DECAY = 1e-3, (0.9, 0.99), 0.3


def lion(layout: Layout) -> Config:
    config = make_config(layout)
    settings = config.optimizer.model_copy(update={"name": "lion", "beta2": BETAS[1]})
    return config.model_copy(update={"optimizer": settings})


def paper(weights, gradients, rate, decay):
    """Algorithm 2 of arXiv 2302.06675, step by step on one tensor."""
    moment = torch.zeros_like(weights)
    for gradient in gradients:
        direction = BETAS[0] * moment + (1 - BETAS[0]) * gradient
        weights = weights - rate * (torch.sign(direction) + decay * weights)
        moment = BETAS[1] * moment + (1 - BETAS[1]) * gradient
    return weights, moment


def built_for(module: torch.nn.Module):
    section = {"name": "lion", "learning_rate": RATE, "beta2": BETAS[1], "weight_decay": DECAY}
    config = load_config(None, {"optimizer": section})
    method = optimizer_of(config)
    return method, method.build(module)


def test_the_update_is_that_of_the_paper():
    torch.manual_seed(0)
    module = torch.nn.Linear(5, 3)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    gradients = {name: torch.randn(4, *p.shape) for name, p in module.named_parameters()}
    method, built = built_for(module)
    for step in range(4):
        for name, parameter in module.named_parameters():
            parameter.grad = gradients[name][step].clone()
        built.step()
    for name, parameter in module.named_parameters():
        decay = DECAY if parameter.dim() > 1 else 0.0
        weights, moment = paper(before[name], gradients[name], RATE, decay)
        torch.testing.assert_close(parameter.detach(), weights)
        torch.testing.assert_close(method.state_of(built, parameter)["exp_avg"], moment)
    assert updates_of(built) == 4


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1.0])
def test_a_bad_step_changes_nothing(wrong):
    torch.manual_seed(0)
    module = torch.nn.Linear(5, 3)
    method, built = built_for(module)
    for bad in (0.0, 1.0, 0.0):
        for parameter in module.parameters():
            parameter.grad = torch.full_like(parameter, wrong if bad else 0.5)
        before = [p.detach().clone() for p in module.parameters()]
        moments = [method.state_of(built, p)["exp_avg"].clone() for p in module.parameters()]
        method.skip_where(built, torch.tensor(bad))
        built.step()
        same = [
            torch.equal(parameter, old) and torch.equal(built.state[parameter]["exp_avg"], moment)
            for parameter, old, moment in zip(module.parameters(), before, moments, strict=True)
        ]
        assert same == [bool(bad)] * 2
    assert updates_of(built) == 2


def weights_after(config: Config, steps: int) -> list[float]:
    """Loss of each step."""
    with topology.start(config) as here:
        from pretrain.model.gpt import build
        from pretrain.training.engine import Engine

        engine = Engine(config, here, build(config, here, VOCABULARY))
        return [
            engine.mean_loss(engine.train_step(batch_at(step, config, here), RATE))
            for step in range(steps)
        ]


@pytest.fixture(scope="module")
def alone() -> list[float]:
    return call_on(1, weights_after, lion(Layout()), 8)[0]


@pytest.mark.distributed
@pytest.mark.parametrize(
    "layout", [Layout("TP2"), *(Layout(data=2, zero=stage) for stage in range(4))], ids=str
)
def test_lion_trains_alike_in_every_layout(layout, alone):
    found = call_on(layout.ranks, weights_after, lion(layout), 8)
    assert found[0] == found[-1]
    # A sign flips where an interpolated moment is 0 but for rounding: a few weights, by a rate.
    assert found[0] == pytest.approx(alone, rel=1e-4)


@pytest.mark.distributed
@pytest.mark.parametrize(
    "layout", [Layout(), Layout(data=2, zero=1), Layout(data=2, zero=3)], ids=str
)
def test_a_resumed_run_is_the_same_to_the_bit(layout, tmp_path):
    config, half = lion(layout), 4
    whole = call_on(layout.ranks, stretch, config, tmp_path / "whole", 2 * half)[0]
    before = call_on(layout.ranks, stretch, config, tmp_path / "parts", half)[0]
    after = call_on(layout.ranks, stretch, config, tmp_path / "parts", 2 * half)[0]
    assert before + after == whole
    expected, found = (state_in(tmp_path / name, 2 * half) for name in ("whole", "parts"))
    assert {name.split()[-1] for name in found} == {"weight", "exp_avg"}
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_going_on_with_another_optimizer_is_refused(tmp_path):
    stretch(make_config(Layout()), tmp_path, 1)
    with pytest.raises(ConfigError, match=r"optimizer\.name was 'adamw' and is 'lion'"):
        stretch(lion(Layout()), tmp_path, 2)


def test_the_planner_counts_one_moment():
    def state(config: Config):
        return memory_of(Planned(config, 1, 64), 0)

    adamw, one = state(make_config(Layout())), state(lion(Layout()))
    assert adamw.state.optimizer == 8 * adamw.parameters
    assert one.state.optimizer == 4 * one.parameters
    assert one.state.stepping == adamw.state.stepping + 4 * one.parameters
