"""Greedy decoding and its scores, against a model whose answers are known."""

import json
import types

import numpy as np
import pytest
import torch

from pretrain.config import load_config
from pretrain.distributed import topology
from pretrain.selection.selector import Selection
from pretrain.tasks.arithmetic.config import ArithmeticData
from pretrain.tasks.arithmetic.data import Arithmetic
from pretrain.tasks.fixed_width.selection import PositionSelector
from pretrain.testing.processes import run_gang


def known_answers(task, order, wrong_from, scored=None):
    """A stand-in for a model copy: right on the test split, wrong from scored example `wrong_from`.

    It only knows what the decoder gave it so far, as a real model does.
    """
    targets = {
        tuple(source): target[list(order)]
        for source, target in zip(task.test.source.tolist(), task.test.target, strict=True)
    }
    wrong = {tuple(row) for row in task.test.spread(scored).source[wrong_from:].tolist()}

    def generate(source, units, pad_id):
        rows = []
        for row in source.tolist():
            answer = targets[tuple(row)].copy()
            if tuple(row) in wrong:
                answer[0] = task.tokenizer.pad_id  # malformed: no digit at all
            rows.append(answer)
        return np.array(rows)

    return types.SimpleNamespace(generate=generate)


def test_answers_are_restored_before_they_are_scored():
    config = load_config(None, {"training": {"evaluation_examples": 100}})
    task = Arithmetic(ArithmeticData())
    order = (2, 1, 3, 0)
    with topology.start(config) as here:
        from pretrain.inference.forward import Forward
        from pretrain.tasks.fixed_width.evaluation import PositionEvaluator

        evaluator = PositionEvaluator(config, Forward(here, torch.nn.ModuleList()), task)
        evaluator.decoder = known_answers(task, order, wrong_from=75, scored=100)
        result = evaluator.run(PositionSelector(Selection("fixed", order, task.unit_names)))
    assert result.examples == 100
    assert result.value == 0.75
    # The malformed token stands where the order puts its first unit: the tens.
    assert result.unit_accuracy == (1.0, 1.0, 0.75, 1.0)
    sample = result.samples[0]
    assert sample["prediction"] == sample["target"]
    assert sample["raw"] == "".join(sample["target"][unit] for unit in order)
    json.dumps(result.samples)


def decode(parallel):
    """Predictions of an untrained model, and its own argmax, digit by digit, in fp32."""
    config = load_config(
        None,
        {
            "model": {"layers": 4, "hidden_size": 32, "init_std": 0.3, "sequence_length": 10},
            "training": {
                "evaluation_examples": 50,
                "evaluation_batch": 16,
                "global_batch": 8,
                "micro_batch": 2,
            },
            "parallel": parallel,
        },
    )
    task = Arithmetic(ArithmeticData())
    with topology.start(config) as here:
        from pretrain.inference.forward import Forward
        from pretrain.model.gpt import build
        from pretrain.tasks.fixed_width.evaluation import PositionEvaluator
        from pretrain.training.engine import Engine

        engine = Engine(config, here, build(config, here, 16))
        evaluator = PositionEvaluator(config, Forward(here, engine.deepspeed.module), task)
        backwards = Selection("reverse", (3, 2, 1, 0), task.unit_names)
        result = evaluator.run(PositionSelector(backwards))
        source = task.test.source[:16]
        return evaluator.decoder.generate(source, 4, 14).tolist(), result.unit_accuracy


def stepwise():
    config = load_config(
        None,
        {"model": {"layers": 4, "hidden_size": 32, "init_std": 0.3, "sequence_length": 10}},
    )
    task = Arithmetic(ArithmeticData())
    with topology.start(config) as here, torch.no_grad():
        from pretrain.model.gpt import build

        model = build(config, here, 16)[0].eval()
        tokens = torch.from_numpy(task.test.source[:16])
        for _ in range(4):
            positions = torch.arange(tokens.size(1)).expand_as(tokens)
            logits = model(tokens, positions, None)
            tokens = torch.cat([tokens, logits[:, -1].argmax(1, keepdim=True)], dim=1)
    return tokens[:, 6:].tolist()


@pytest.mark.distributed
def test_decoding_is_the_same_on_every_layout():
    expected = stepwise()
    single = run_gang(1, [(decode, {})])[0][0]
    assert single[0] == expected
    assert len({tuple(row) for row in expected}) > 3  # the answers do differ
    layouts = [
        {"tensor": 2},
        {"tensor": 2, "sequence_parallel": True},
        {"pipeline": 2},
        {"pipeline": 2, "virtual_pipeline": 2},
        {},
        {"zero_stage": 3},
    ]
    for layout, results in zip(
        layouts, run_gang(2, [(decode, layout) for layout in layouts]), strict=True
    ):
        for answers, accuracy in results:
            assert answers == expected, layout
            assert accuracy == pytest.approx(single[1]), layout
