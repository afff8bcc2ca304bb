"""Every layout trains like one process: loss and gradient norm, step by step."""

from typing import Any

import pytest
import torch

from pretrain import topology
from pretrain.config import Config, load_config
from pretrain.training.schedule import learning_rate
from tests.gang import run_gang

STEPS = 20
MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {"preset": "gpt2"},
    "llama": {"preset": "llama", "kv_heads": 2},
}
LAYOUTS: dict[int, dict[str, dict[str, Any]]] = {
    2: {
        "DP2": {},
        "TP2": {"tensor": 2},
        "PP2": {"pipeline": 2},
        "DP2 ZeRO-1": {"zero_stage": 1},
        "DP2 ZeRO-2": {"zero_stage": 2},
        "DP2 ZeRO-3": {"zero_stage": 3},
        "TP2 with sequence parallelism": {"tensor": 2, "sequence_parallel": True},
        "PP2 interleaved": {"pipeline": 2, "virtual_pipeline": 2},
        "PP2 ZeRO-2": {"pipeline": 2, "zero_stage": 2},
    },
    4: {
        "DP4": {},
        "TP2 PP2": {"tensor": 2, "pipeline": 2},
        "PP2 DP2 ZeRO-1": {"pipeline": 2, "zero_stage": 1},
    },
}


def make_config(model: str, parallel: dict[str, Any], precision: str = "fp32") -> Config:
    return load_config(
        None,
        {
            "model": {
                "layers": 4,
                "hidden_size": 32,
                "attention_heads": 4,
                "sequence_length": 16,
                **MODELS[model],
            },
            "parallel": parallel,
            "optimizer": {"warmup_steps": 3, "learning_rate": 1e-2, "clip_norm": 0.5},
            "training": {
                "steps": STEPS,
                "global_batch": 16,
                "micro_batch": 4,
                "precision": precision,
            },
        },
    )


def train(config: Config) -> list[tuple[float, float]]:
    """(loss, gradient norm) of each step on batches that everybody draws alike."""
    with topology.start(config) as here:
        from pretrain.data.batches import Batch
        from pretrain.model.gpt import build
        from pretrain.training.engine import Engine

        engine = Engine(config, here, build(config, here, 32))
        generator = torch.Generator().manual_seed(0)
        mine = slice(here.data.rank * engine.share, (here.data.rank + 1) * engine.share)
        trace = []
        for step in range(STEPS):
            tokens = torch.randint(0, 32, (16, 17), generator=generator)
            # Unequal numbers of targets per rank: a mean of means would show.
            keep = torch.linspace(0.1, 0.9, 16)[:, None]
            mask = (torch.rand(16, 16, generator=generator) < keep).float()
            batch = Batch(
                tokens[mine, :-1].contiguous(),
                tokens[mine, 1:].contiguous(),
                mask[mine],
                int(mask.sum()),
            )
            result = engine.train_step(batch, learning_rate(step, config))
            trace.append((engine.mean_loss(result), float(result.grad_norm)))
        return trace


@pytest.fixture(scope="module")
def one_process() -> dict[str, list[tuple[float, float]]]:
    results = run_gang(1, [(train, make_config(model, {})) for model in MODELS])
    return {model: result[0] for model, result in zip(MODELS, results, strict=True)}


@pytest.fixture(scope="module")
def spread() -> dict[tuple[str, str], list[list[tuple[float, float]]]]:
    traces = {}
    for ranks, layouts in LAYOUTS.items():
        keys = [(model, name) for model in MODELS for name in layouts]
        calls = [(train, make_config(model, layouts[name])) for model, name in keys]
        traces.update(zip(keys, run_gang(ranks, calls, timeout=500), strict=True))
    return traces


@pytest.mark.distributed
@pytest.mark.parametrize("model", list(MODELS))
@pytest.mark.parametrize("layout", [name for layouts in LAYOUTS.values() for name in layouts])
def test_a_layout_trains_like_one_process(model, layout, one_process, spread):
    expected = one_process[model]
    for trace in spread[model, layout]:
        assert [loss for loss, _ in trace] == pytest.approx(
            [loss for loss, _ in expected], rel=1e-5
        )
        assert [norm for _, norm in trace] == pytest.approx(
            [norm for _, norm in expected], rel=1e-4
        )


@pytest.mark.distributed
@pytest.mark.parametrize("model", list(MODELS))
def test_clipping_is_active_and_the_model_changes(model, one_process):
    norms = [norm for _, norm in one_process[model]]
    losses = [loss for loss, _ in one_process[model]]
    assert sum(norm > 0.5 for norm in norms) > STEPS / 2
    assert len(set(losses)) == STEPS


@pytest.mark.distributed
def test_bf16_follows_fp32(one_process):
    config = make_config("gpt2", {}, "bf16")
    single, pair = run_gang(1, [(train, config)])[0][0], run_gang(2, [(train, config)])[0][0]
    expected = [loss for loss, _ in one_process["gpt2"]]
    assert [loss for loss, _ in single] == pytest.approx(expected, rel=2e-2)
    assert [loss for loss, _ in pair] == pytest.approx([loss for loss, _ in single], rel=2e-3)
