"""Objectives with a second head train alike in every layout, and go on to the bit."""

import pytest
import torch

from pretrain.config import Config
from pretrain.distributed import topology
from pretrain.objectives.base import objective_of
from pretrain.testing.processes import call_on
from pretrain.training.schedule import learning_rate
from tests.distributed.layouts import STEPS, VOCABULARY, Layout, make_config
from tests.training.checkpoint.stretches import state_in, stretch

SECTIONS = {
    "top": {"name": "top", "coefficient": 0.7, "window": 5},
    "mi_bag": {"name": "mi_bag", "window": 4, "weighting": "pmi"},
}
SOME = [
    Layout("TP2"),
    Layout(pipeline="PP2"),
    Layout(data=2, zero=2),
    Layout("TP2", "PP2"),
]
MORE = [
    Layout("TP2-SP", embeddings="untied"),
    Layout(pipeline="PP2-interleaved", embeddings="untied"),
    Layout(pipeline="PP2", data=2, zero=2),
    Layout("TP2-SP", "PP2", embeddings="untied"),
    Layout(data=2, zero=1, embeddings="untied"),
    Layout(data=2, zero=3),
    Layout("TP2", data=2, zero=3, embeddings="untied"),
]


def config_of(layout: Layout, name: str) -> Config:
    config = make_config(layout)
    objective = config.objective.model_copy(update=SECTIONS[name])
    return config.model_copy(update={"objective": objective})


def train(config: Config) -> list[tuple[float, float, list[float]]]:
    """(loss, gradient norm, summands of the loss) of each step: packed documents, masked labels,
    and weights of their own."""
    with topology.start(config) as here:
        from pretrain.data.batch import Batch, field_layout, positions_of
        from pretrain.model.gpt import build
        from pretrain.training.engine import Engine

        objective = objective_of(config)
        engine = Engine(config, here, build(config, here, VOCABULARY))
        generator = torch.Generator().manual_seed(0)
        mine = slice(here.data.rank * engine.share, (here.data.rank + 1) * engine.share)
        trace = []
        for step in range(STEPS):
            tokens = torch.randint(0, VOCABULARY, (16, 17), generator=generator)
            keep = torch.linspace(0.1, 0.9, 16)[:, None]
            mask = (torch.rand(16, 16, generator=generator) < keep).float()
            positions = positions_of(torch.rand(16, 16, generator=generator) < 0.15)
            layout = field_layout(objective.fields, objective.per_token, (16, 16))
            fields = {
                name: 3.0 * torch.rand(shape, generator=generator)
                for name, (_, shape) in layout.items()
            }
            batch = Batch(
                tokens[mine, :-1].contiguous(),
                tokens[mine, 1:].contiguous(),
                mask[mine],
                objective.count(mask, fields),
                positions[mine],
                {name: values[mine] for name, values in fields.items()},
            )
            result = engine.train_step(batch, learning_rate(step, config))
            terms = engine.mean_terms(result)
            assert tuple(terms) == objective.terms
            trace.append((engine.mean_loss(result), float(result.grad_norm), list(terms.values())))
        return trace


@pytest.fixture(scope="module")
def alone():
    """Traces of one process, made when they are asked for."""
    traces = {}

    def find(name: str, embeddings: str):
        if (name, embeddings) not in traces:
            config = config_of(Layout(embeddings=embeddings), name)
            traces[name, embeddings] = call_on(1, train, config)[0]
        return traces[name, embeddings]

    return find


@pytest.mark.distributed
@pytest.mark.parametrize("name", SECTIONS)
@pytest.mark.parametrize(
    "layout", [*SOME, *(pytest.param(one, marks=pytest.mark.parity) for one in MORE)], ids=str
)
def test_a_second_head_trains_alike_in_every_layout(layout, name, alone):
    expected = alone(name, layout.embeddings)
    for trace in call_on(layout.ranks, train, config_of(layout, name)):
        assert [step[0] for step in trace] == pytest.approx([x[0] for x in expected], rel=1e-5)
        assert [step[1] for step in trace] == pytest.approx([x[1] for x in expected], rel=1e-4)
        for found, wanted in zip(trace, expected, strict=True):
            assert found[2] == pytest.approx(wanted[2], rel=1e-5)


@pytest.mark.distributed
@pytest.mark.parametrize("name", SECTIONS)
def test_the_loss_can_be_taken_apart_and_falls(name, alone):
    trace = alone(name, "tied")
    for loss, _, terms in trace:
        assert loss == pytest.approx(sum(terms), rel=1e-6)
        assert all(term > 0 for term in terms)
    assert all(trace[-1][2][each] < trace[0][2][each] for each in (0, 1))


@pytest.mark.distributed
@pytest.mark.parametrize(
    "layout", [Layout(data=2, zero=2), pytest.param(Layout("TP2", "PP2"), marks=pytest.mark.parity)]
)
def test_a_second_head_goes_on_to_the_bit(layout, tmp_path):
    config = config_of(layout, "top")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    uninterrupted = call_on(layout.ranks, stretch, config, whole, 8)[0]
    before = call_on(layout.ranks, stretch, config, parts, 4)[0]
    after = call_on(layout.ranks, stretch, config, parts, 8)[0]
    assert before + after == uninterrupted
    expected, found = state_in(whole, 8), state_in(parts, 8)
    assert any("loss_head.weight" in name for name in expected)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
