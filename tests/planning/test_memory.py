"""Planned state against what DeepSpeed really allocates, category by category."""

from typing import Any

import pytest

from pretrain.planning import Layout
from pretrain.planning.memory import largest, memory_of
from pretrain.testing.processes import run_gang
from tests.planning.reality import make_config, state_and_plan

BUCKET = 20_000


def case(
    precision: str = "fp32",
    micro_batch: int = 2,
    model: Any = None,
    strategy: str = "max_mi",
    **parallel: Any,
) -> Any:
    return make_config(
        model=model or {},
        parallel=parallel,
        selection={"strategy": strategy},
        training={"precision": precision, "micro_batch": micro_batch},
    )


LLAMA = {"preset": "llama", "kv_heads": 2}
CASES: dict[int, dict[str, Any]] = {
    1: {"fp32": case(), "bf16": case("bf16")},
    2: {
        "DP2": case(),
        "DP2 ZeRO-1 bf16": case("bf16", zero_stage=1),
        "DP2 ZeRO-1, one micro-batch": case(zero_stage=1, micro_batch=4),
        "DP2 ZeRO-2": case(zero_stage=2),
        "DP2 ZeRO-2 bf16": case("bf16", zero_stage=2),
        "DP2 ZeRO-2 bf16, one micro-batch": case("bf16", zero_stage=2, micro_batch=4),
        "DP2 ZeRO-3 bf16": case("bf16", zero_stage=3),
        "DP2 ZeRO-3 llama": case(zero_stage=3, model=LLAMA),
        "TP2": case(tensor=2),
        "TP2 with sequence parallelism, llama bf16": case(
            "bf16", tensor=2, sequence_parallel=True, model=LLAMA
        ),
        "PP2 bf16": case("bf16", pipeline=2),
        "PP2 ZeRO-2 bf16": case("bf16", pipeline=2, zero_stage=2),
        "PP2 interleaved": case(pipeline=2, virtual_pipeline=2),
        "PP2 ZeRO-2 bf16, any order": case("bf16", pipeline=2, zero_stage=2, strategy="any_order"),
        "DP2 ZeRO-3 llama, any order": case(zero_stage=3, model=LLAMA, strategy="any_order"),
    },
    4: {
        "PP2 DP2 ZeRO-2": case(pipeline=2, zero_stage=2),
        "PP2 DP2 ZeRO-1 bf16 llama": case("bf16", pipeline=2, zero_stage=1, model=LLAMA),
    },
}


@pytest.fixture(scope="module")
def reality() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for ranks, cases in CASES.items():
        calls = [(state_and_plan, config, BUCKET) for config in cases.values()]
        found.update(zip(cases, run_gang(ranks, calls), strict=True))
    return found


@pytest.mark.distributed
@pytest.mark.parametrize("name", [name for cases in CASES.values() for name in cases])
def test_a_rank_holds_what_is_planned(name, reality):
    for measured, planned, built, held, _ in reality[name]:
        assert held == built
        for category in ("weights", "optimizer", "buckets"):
            assert planned[category] == pytest.approx(measured[category], rel=0.05), category


@pytest.mark.distributed
@pytest.mark.parametrize("name", [name for cases in CASES.values() for name in cases])
def test_gradients_are_as_planned_on_the_rank_that_holds_most(name, reality):
    """Copies of a stage hold gradients at different times: the plan is of the one with most."""
    ranks = reality[name]
    for stage in {stage for *_, stage in ranks}:
        measured = max(m["gradients"] for m, *_, at in ranks if at == stage)
        (planned,) = {p["gradients"] for _, p, *_, at in ranks if at == stage}
        assert planned == pytest.approx(measured, rel=0.05)


def test_with_one_micro_batch_gradients_take_the_place_of_activations():
    one, many = (memory_of(Layout(case(micro_batch=size), 1, 160), 0) for size in (8, 4))
    base = one.state.weights + one.state.optimizer
    assert one.backward == base + max(one.activations, one.state.gradients) + one.working
    assert many.backward == base + many.state.gradients + many.activations + many.working


def test_the_first_stage_of_a_pipeline_needs_most():
    layout = Layout(case("bf16", pipeline=4, micro_batch=1), 4, 160)
    peaks = [memory_of(layout, stage).peak for stage in range(4)]
    assert largest(layout).peak == peaks[0] == max(peaks)


def test_an_offloaded_optimizer_is_on_the_host():
    layout = Layout(case("bf16", zero_stage=1, offload="optimizer"), 1, 160)
    state = memory_of(layout, 0).state
    assert state.optimizer == state.gradients == 0
    # 4 bytes each of master weight, two moments and gradient, 2 of the weight on its way back.
    assert state.host == pytest.approx(18 * memory_of(layout, 0).parameters, rel=0.001)
