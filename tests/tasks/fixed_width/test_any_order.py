"""Decoding a model that has every order: as asked for, and adaptively, on any layout."""

import itertools
import json

import numpy as np
import pytest
import torch

from pretrain.config import load_config
from pretrain.distributed import topology
from pretrain.errors import ConfigError
from pretrain.selection.selector import Selection
from pretrain.tasks.arithmetic.config import ArithmeticData
from pretrain.tasks.arithmetic.data import Arithmetic
from pretrain.tasks.fixed_width.batches import asked_places
from pretrain.tasks.fixed_width.selection import PositionSelector
from pretrain.testing.processes import run_gang

ORDER = (2, 0, 3, 1)
WIDTH, UNITS = 6, 4


def config_of(parallel=None, **selection):
    return load_config(
        None,
        {
            "model": {"layers": 4, "hidden_size": 32, "init_std": 0.3, "sequence_length": 10},
            "selection": {
                "strategy": "any_order",
                "criterion": "fixed",
                "fixed": ORDER,
                **selection,
            },
            "training": {
                "evaluation_examples": 50,
                "evaluation_batch": 16,
                "global_batch": 8,
                "micro_batch": 2,
            },
            "parallel": parallel or {},
        },
    )


def decode(parallel, decodings):
    """What an untrained model writes in each way, and its scores."""
    config = config_of(parallel, decode="adaptive")
    task = Arithmetic(ArithmeticData())
    with topology.start(config) as here:
        from pretrain.inference.forward import Forward
        from pretrain.model.gpt import build
        from pretrain.tasks.fixed_width.evaluation import PositionEvaluator
        from pretrain.training.engine import Engine

        engine = Engine(config, here, build(config, here, 16))
        evaluator = PositionEvaluator(config, Forward(here, engine.deepspeed.module), task)
        selector = PositionSelector(Selection("any_order", ORDER, task.unit_names))
        scores = evaluator.run(selector)
        found = []
        for order in decodings:
            written = evaluator.decoder.write(task.test.source[:16], UNITS, 14, order)
            found.append((written.tokens.tolist(), written.orders.tolist()))
        return found, scores.values, scores.unit_accuracy


def reference(decodings):
    """The same, one example and one unit at a time, from the model's whole output."""
    config = config_of()
    task = Arithmetic(ArithmeticData())
    with topology.start(config) as here, torch.no_grad():
        from pretrain.model.gpt import build

        model = build(config, here, 16)[0].eval()

        def best(tokens, order):
            """Likeliest token for the last unit of `order`, and its log-probability."""
            asked = asked_places(np.array([[*order]]), WIDTH, len(tokens))
            logits = model(
                torch.tensor([tokens]), torch.arange(len(tokens))[None], None,
                asked=torch.from_numpy(asked),
            )  # fmt: skip
            nats, token = logits[0, -1].double().log_softmax(0).max(0)
            return float(nats), int(token)

        found = []
        for given in decodings:
            answers, orders = [], []
            for source in task.test.source[:16].tolist():
                tokens, order = source, []
                while len(order) < UNITS:
                    left = [unit for unit in given or range(UNITS) if unit not in order]
                    left = left[:1] if given else left
                    told = {unit: best(tokens, [*order, unit]) for unit in left}
                    unit = max(told, key=lambda unit: told[unit][0])
                    tokens, order = [*tokens, told[unit][1]], [*order, unit]
                answers.append(tokens[WIDTH:])
                orders.append(order)
            found.append((answers, orders))
        return found


@pytest.mark.distributed
def test_decoding_is_the_same_on_every_layout_and_as_its_definition_says():
    decodings = [(0, 1, 2, 3), ORDER, (3, 2, 1, 0), None]
    ((expected,),) = run_gang(1, [(reference, decodings)])
    adaptive = {tuple(order) for order in expected[3][1]}
    assert len(adaptive) > 3  # examples differ in the order that is surest
    assert len({json.dumps(answers) for answers, _ in expected}) == 4  # and so do answers
    ((single,),) = run_gang(1, [(decode, {}, decodings)])
    assert single[0] == expected
    layouts = [
        {"tensor": 2},
        {"tensor": 2, "sequence_parallel": True},
        {"pipeline": 2},
        {"pipeline": 2, "virtual_pipeline": 2},
        {},
        {"zero_stage": 3},
    ]
    results = run_gang(2, [(decode, layout, decodings) for layout in layouts])
    for layout, ranks in zip(layouts, results, strict=True):
        for found, values, accuracy in ranks:
            assert found == expected, layout
            assert values == pytest.approx(single[1]), layout
            assert accuracy == pytest.approx(single[2]), layout


class KnowsAll:
    """Stands in for a model copy: right where units are asked for in one of some orders."""

    def __init__(self, task, right):
        self.targets = {
            tuple(source): target
            for source, target in zip(task.test.source.tolist(), task.test.target, strict=True)
        }
        self.right = right

    def write(self, source, units, pad_id, order):
        from pretrain.inference.any_order import Written

        surest = (1, 3, 0, 2)
        orders = np.tile(surest if order is None else [*order], (len(source), 1))
        tokens = np.array(
            [
                self.targets[tuple(row)][asked] if tuple(asked) in self.right else [pad_id] * units
                for row, asked in zip(source.tolist(), orders, strict=True)
            ]
        )
        return Written(tokens, orders)


@pytest.mark.parametrize("counts", ["natural", "criterion", "adaptive"])
def test_answers_are_restored_and_scored_in_each_way(counts):
    ways = {"natural": (0, 1, 2, 3), "criterion": ORDER, "adaptive": (1, 3, 0, 2)}
    task = Arithmetic(ArithmeticData())
    config = config_of(decode=counts)
    with topology.start(config) as here:
        from pretrain.inference.any_order import AnyOrderDecoder
        from pretrain.inference.forward import Forward
        from pretrain.tasks.fixed_width.evaluation import PositionEvaluator

        evaluator = PositionEvaluator(config, Forward(here, torch.nn.ModuleList()), task)
        known = KnowsAll(task, right={ways[counts]})
        evaluator.decoder = AnyOrderDecoder(evaluator.decoder.forward)
        evaluator.decoder.write = known.write
        result = evaluator.run(PositionSelector(Selection("any_order", ORDER, task.unit_names)))
    assert result.values == {
        "exact_match": 1.0,
        **{f"exact_match/{name}": float(name == counts) for name in ways},
    }
    assert result.unit_accuracy == (1.0,) * UNITS
    sample = result.samples[0]
    assert sample["order"] == list(ways[counts])
    assert sample["raw"] == "".join(sample["target"][unit] for unit in sample["order"])
    json.dumps(result.samples)


def test_places_that_are_asked_for():
    orders = np.array([[2, 0, 1], [0, 1, 2]])

    assert asked_places(orders, 2, 5).tolist() == [[1, 4, 2, 3, 5], [1, 2, 3, 4, 5]]


def test_what_is_of_any_order_alone_is_refused_elsewhere():
    fields = {"criterion": "reverse", "draw": "criterion", "anneal_to": "natural",
              "decode": "adaptive"}  # fmt: skip
    for name, value in fields.items():
        with pytest.raises(ConfigError, match=f"selection.{name} {value} is of no use"):
            load_config(None, {"selection": {"strategy": "ntp", name: value}})
    with pytest.raises(ConfigError, match=r"anneal_from 0.7 is after selection.anneal_until 0.6"):
        config_of(anneal_from=0.7)
    with pytest.raises(ConfigError, match=r"criterion|fixed needs selection.fixed"):
        load_config(None, {"selection": {"strategy": "any_order", "criterion": "fixed"}})


def test_text_refuses_it():
    values = {"data": {"task": "text", "path": "x.jsonl"}, "selection": {"strategy": "any_order"}}

    with pytest.raises(ConfigError, match=r"any_order is not known to data.task text; use ntp"):
        load_config(None, values)


@pytest.mark.parametrize(
    "selection, decoding",
    [
        ({}, "natural"),
        ({"anneal_to": "natural"}, "natural"),
        ({"anneal_to": "criterion"}, "criterion"),
        ({"anneal_to": "natural", "decode": "adaptive"}, "adaptive"),
    ],
)
def test_the_decoding_that_counts_is_that_of_annealing(selection, decoding):
    assert config_of(**selection).selection.decoding == decoding


def test_every_order_is_counted_and_restored():
    """What is written in any order is the answer itself, in natural order."""
    from pretrain.inference.any_order import Written

    orders = np.array(list(itertools.permutations(range(UNITS))))
    natural = np.arange(len(orders) * UNITS).reshape(-1, UNITS)

    written = Written(np.take_along_axis(natural, orders, axis=1), orders)
    assert (written.natural == natural).all()
