"""Objectives beside plain cross entropy: values, gradients, and the same training in any layout."""

import pytest
import torch
import torch.distributed as dist

from pretrain.config import Config, load_config
from pretrain.distributed import topology
from pretrain.errors import ConfigError, UserError
from pretrain.objectives import blocks as module
from pretrain.objectives.base import objective_of
from pretrain.objectives.cross_entropy import linear_cross_entropy
from pretrain.objectives.weighted import WeightedCrossEntropy
from pretrain.objectives.z_loss import ZLoss
from pretrain.planning.activations import activations
from pretrain.planning.layout import Layout as Planned
from pretrain.testing.processes import call_on
from tests.distributed.layouts import VOCABULARY, Layout, make_config
from tests.objectives.test_cross_entropy import problem

COEFFICIENT = 0.05
"""Large enough to change the training."""
STEPS = 8


def plain(hidden, weight, labels, mask, coefficient):
    """The formula, in float64 and with all logits."""
    logits = hidden.double() @ weight.double().t()
    log_z = logits.logsumexp(1)
    nats = log_z - logits.gather(1, labels[:, None]).squeeze(1)
    return ((nats + coefficient * log_z**2) * mask).sum()


@pytest.mark.parametrize("block", [1, 64 * 24, 1 << 20])
def test_z_loss_is_its_formula(monkeypatch, block):
    monkeypatch.setitem(module.BLOCK_ELEMENTS, "cpu", block)
    hidden, weight, labels, mask = problem(200, 24)
    expected = plain(hidden, weight, labels, mask, COEFFICIENT)
    wanted = torch.autograd.grad(expected, (hidden, weight))
    loss = ZLoss(COEFFICIENT).loss_sum(hidden, weight, labels, mask, {}, None)
    got = torch.autograd.grad(loss, (hidden, weight))
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=1e-6)
    for mine, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, theirs.float(), rtol=1e-5, atol=1e-5)


def test_a_term_may_be_of_the_nats_too():
    """The square of the nats: a slope for the label as well."""
    hidden, weight, labels, mask = problem(70, 10)
    logits = hidden @ weight.t()
    nats = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    expected = ((nats + nats**2) * mask).sum()
    wanted = torch.autograd.grad(expected, (hidden, weight))
    loss = linear_cross_entropy(hidden, weight, labels, mask, None, lambda _, nats: nats**2)
    got = torch.autograd.grad(loss, (hidden, weight))
    torch.testing.assert_close(loss, expected)
    for mine, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def split_z_loss():
    with topology.start(load_config(None, {"parallel": {"tensor": 2}})) as here:
        hidden, weight, labels, mask = problem(50, 24)
        rank, group = here.tensor.rank, here.tensor.group
        part = weight.detach()[12 * rank : 12 * rank + 12].clone().requires_grad_()
        loss = ZLoss(COEFFICIENT).loss_sum(hidden, part, labels, mask, {}, group)
        loss.backward()
        dist.all_reduce(hidden.grad, group=group)
        return loss.item(), hidden.grad, part.grad


@pytest.mark.distributed
def test_z_loss_over_a_vocabulary_on_two_ranks_is_the_same():
    hidden, weight, labels, mask = problem(50, 24)
    expected = plain(hidden, weight, labels, mask, COEFFICIENT)
    grad_hidden, grad_weight = torch.autograd.grad(expected, (hidden, weight))
    results = call_on(2, split_z_loss)
    for loss, got, _ in results:
        assert loss == pytest.approx(expected.item(), rel=1e-6)
        torch.testing.assert_close(got, grad_hidden.float(), rtol=1e-5, atol=1e-5)
    parts = torch.cat([part for _, _, part in results])
    torch.testing.assert_close(parts, grad_weight.float(), rtol=1e-5, atol=1e-5)


def test_weights_make_a_weighted_mean():
    hidden, weight, labels, mask = problem(60, 24)
    weights = torch.rand(60)
    objective = WeightedCrossEntropy()
    nats = torch.nn.functional.cross_entropy(hidden @ weight.t(), labels, reduction="none")
    loss = objective.loss_sum(hidden, weight, labels, mask, {"weight": weights}, None)
    torch.testing.assert_close(loss, (nats * mask * weights).sum())
    count = objective.count(mask, {"weight": weights})
    assert count == pytest.approx(float((mask * weights).sum()))
    twice = objective.loss_sum(hidden, weight, labels, mask, {"weight": 2 * weights}, None)
    assert float(twice) / objective.count(mask, {"weight": 2 * weights}) == pytest.approx(
        float(loss) / count
    )


@pytest.mark.parametrize("wrong", [-0.5, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(wrong):
    weights = torch.tensor([[1.0, wrong]])
    with pytest.raises(UserError, match="the field weight of a batch holds"):
        WeightedCrossEntropy().count(torch.ones(1, 2), {"weight": weights})


def test_a_coefficient_without_a_term_is_refused():
    config = load_config(None, {"objective": {"coefficient": 0.1}})
    with pytest.raises(ConfigError, match=r"objective\.coefficient 0\.1 .* leave it out"):
        objective_of(config)
    default = objective_of(load_config(None, {"objective": {"name": "z_loss"}}))
    assert default.coefficient == 1e-4


def test_the_planner_asks_the_objective():
    def kept(**objective) -> int:
        return activations(Planned(load_config(None, objective), 1, 64), 0).kept

    config = load_config(None, {})
    tokens = config.training.global_batch * config.model.sequence_length
    weighted = kept(objective={"name": "weighted_cross_entropy"})
    assert weighted == kept() + 4 * tokens
    assert kept(objective={"name": "z_loss"}) == kept()


def train(config: Config) -> list[tuple[float, float]]:
    """(loss, gradient norm) of each step, tokens with random weights of their own."""
    with topology.start(config) as here:
        from pretrain.data.batch import Batch
        from pretrain.model.gpt import build
        from pretrain.training.engine import Engine

        objective = objective_of(config)
        engine = Engine(config, here, build(config, here, VOCABULARY))
        generator = torch.Generator().manual_seed(0)
        mine = slice(here.data.rank * engine.share, (here.data.rank + 1) * engine.share)
        trace = []
        for _ in range(STEPS):
            tokens = torch.randint(0, VOCABULARY, (16, 17), generator=generator)
            mask = (torch.rand(16, 16, generator=generator) < 0.6).float()
            fields = {"weight": 3.0 * torch.rand(16, 16, generator=generator)}
            batch = Batch(
                tokens[mine, :-1].contiguous(),
                tokens[mine, 1:].contiguous(),
                mask[mine],
                objective.count(mask, fields),
                fields={name: values[mine] for name, values in fields.items()},
            )
            result = engine.train_step(batch, 1e-2)
            trace.append((engine.mean_loss(result), float(result.grad_norm)))
        return trace


def config_of(layout: Layout, name: str) -> Config:
    coefficient = COEFFICIENT if name == "z_loss" else None
    config = make_config(layout)
    objective = config.objective.model_copy(update={"name": name, "coefficient": coefficient})
    return config.model_copy(update={"objective": objective})


NAMES = ("z_loss", "weighted_cross_entropy")
SOME = [
    Layout("TP2"),
    Layout(pipeline="PP2", zero=1),
    Layout("TP2", "PP2"),
    Layout(data=2, zero=2),
    Layout(data=2, zero=3),
]
MORE = [
    Layout("TP2-SP", embeddings="untied"),
    Layout(pipeline="PP2-interleaved"),
    Layout("TP2-SP", "PP2", embeddings="untied"),
    Layout(data=2, embeddings="untied"),
    Layout(data=2, zero=1),
    Layout("TP2", data=2, zero=3),
]


@pytest.fixture(scope="module")
def alone():
    """Traces of one process."""
    return {
        (name, embeddings): call_on(1, train, config_of(Layout(embeddings=embeddings), name))[0]
        for name in NAMES
        for embeddings in ("tied", "untied")
    }


@pytest.mark.distributed
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "layout", [*SOME, *(pytest.param(one, marks=pytest.mark.parity) for one in MORE)], ids=str
)
def test_an_objective_trains_alike_in_every_layout(layout, name, alone):
    found = call_on(layout.ranks, train, config_of(layout, name))
    expected = alone[name, layout.embeddings]
    for trace in found:
        assert [loss for loss, _ in trace] == pytest.approx([x for x, _ in expected], rel=1e-5)
        assert [norm for _, norm in trace] == pytest.approx([x for _, x in expected], rel=1e-4)


@pytest.mark.distributed
def test_objectives_are_not_the_same_training(alone):
    (usual,) = call_on(1, train, config_of(Layout(), "cross_entropy"))
    for name in NAMES:
        assert abs(usual[0][0] - alone[name, "tied"][0][0]) > 1e-3
