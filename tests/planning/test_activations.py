"""Planned activations against the tensors that autograd really saves."""

from pathlib import Path
from typing import Any

import pytest

from pretrain.planning import Layout
from pretrain.planning.activations import activations, in_flight
from pretrain.testing.processes import run_gang
from tests.planning.reality import make_config, saved_and_planned

LLAMA = {"preset": "llama", "kv_heads": 2}
RECOMPUTES = ("none", "selective", "full")
TEXT = {
    "data": {"task": "text", "path": Path("unread.txt")},
    "selection": {"strategy": "ntp"},
}


def case(recompute: str = "none", precision: str = "fp32", **sections: Any) -> Any:
    return make_config(
        training={"recompute": recompute, "precision": precision, "global_batch": 2}, **sections
    )


ALONE = {
    f"{name} {recompute}": case(recompute, **sections)
    for name, sections in {
        "gpt2": {},
        "llama": {"model": LLAMA},
        "gpt2 bf16": {"precision": "bf16"},
        "llama bf16": {"model": LLAMA, "precision": "bf16"},
        "packed texts": TEXT,
        "second head": {"objective": {"name": "top"}},
        "gpt2 dropout": {"model": {"dropout": 0.1}},
        "llama dropout bf16": {"model": {**LLAMA, "dropout": 0.1}, "precision": "bf16"},
    }.items()
    for recompute in RECOMPUTES
}
PAIRS = {
    f"{model.get('preset', 'gpt2')} {name} {recompute}": case(
        recompute, model=model, parallel=parallel
    )
    for model in ({}, LLAMA)
    for name, parallel in {
        "TP2": {"tensor": 2},
        "TP2 with sequence parallelism": {"tensor": 2, "sequence_parallel": True},
        "PP2": {"pipeline": 2},
    }.items()
    for recompute in RECOMPUTES
}
PAIRS["second head TP2"] = case(parallel={"tensor": 2}, objective={"name": "mi_bag"})


@pytest.fixture(scope="module")
def reality() -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    for ranks, cases in ((1, ALONE), (2, PAIRS)):
        answers = run_gang(ranks, [(saved_and_planned, config) for config in cases.values()])
        found.update(zip(cases, answers, strict=True))
    return found


@pytest.mark.distributed
@pytest.mark.parametrize("name", [*ALONE, *PAIRS])
def test_activations_are_as_planned(name, reality):
    for measured, planned in reality[name]:
        assert planned == pytest.approx(measured, rel=0.05)


def planned(stage: int, **parallel: Any) -> Layout:
    config = make_config(
        model={"layers": 8}, parallel=parallel, training={"global_batch": 8, "micro_batch": 1}
    )
    return Layout(config, parallel["pipeline"], 160)


def test_a_pipeline_keeps_as_many_micro_batches_as_stages_lie_behind():
    layout = planned(0, pipeline=4)
    assert [in_flight(layout, stage) for stage in range(4)] == [4, 3, 2, 1]


def test_an_interleaved_pipeline_keeps_more():
    # Korthikanti et al., section 4.2.3: layers x (1 + (p - 1) / (p v)), here 2 x 4 + ... chunks.
    layout = planned(0, pipeline=4, virtual_pipeline=2)
    assert [in_flight(layout, stage) for stage in range(4)] == [11, 9, 7, 5]
    assert in_flight(layout, 0) / 2 == 4 * (1 + 3 / 8)


def test_few_micro_batches_bound_what_is_kept():
    config = make_config(parallel={"pipeline": 4}, training={"global_batch": 2, "micro_batch": 1})
    assert in_flight(Layout(config, 4, 160), 0) == 2


def test_a_gpu_keeps_no_square_matrix_and_a_byte_of_each_dropped_element():
    config = make_config(model={"dropout": 0.1})
    layout = Layout(config, 1, 160)
    plain = Layout(make_config(), 1, 160)
    tokens, hidden, layers = 2 * 48, 64, 4
    masks = (2 * layers + 1) * tokens * hidden
    assert activations(layout, 0).kept == activations(plain, 0).kept + masks
