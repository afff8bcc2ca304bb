"""Every layout trains like one process: loss and gradient norm, step by step.

A subset runs with all tests; all of them run with `make test-parity`.
"""

import gc
from dataclasses import replace

import pytest

from pretrain.testing.processes import call_on
from tests.distributed.layouts import STEPS, SUBSET, Layout, every_layout, make_config, train

LOSS = {"fp32": 1e-5, "bf16": 2e-2}
NORM = {"fp32": 1e-4, "bf16": 1e-1}
Trace = list[tuple[float, float]]


@pytest.fixture(scope="module")
def trace_of():
    """Trains a layout once and remembers what it gave."""
    traces: dict[Layout, Trace] = {}

    def find(layout: Layout) -> Trace:
        if layout not in traces:
            found = call_on(layout.ranks, train, make_config(layout))
            assert all(trace == found[0] for trace in found), "ranks do not agree"
            traces[layout] = found[0]
        return traces[layout]

    return find


def equals_one_process(layout: Layout, trace_of) -> None:
    found, expected = trace_of(layout), trace_of(layout.alone)
    for column, tolerance in ((0, LOSS), (1, NORM)):
        assert [step[column] for step in found] == pytest.approx(
            [step[column] for step in expected], rel=tolerance[layout.precision]
        )
    lowest = replace(layout, zero=1 if layout.precision == "bf16" else 0)
    if layout.zero > lowest.zero:
        assert [loss for loss, _ in found] == pytest.approx(
            [loss for loss, _ in trace_of(lowest)], rel=1e-3
        )


@pytest.mark.distributed
@pytest.mark.parametrize("layout", SUBSET, ids=str)
def test_a_layout_trains_like_one_process(layout, trace_of):
    equals_one_process(layout, trace_of)


@pytest.mark.parity
@pytest.mark.parametrize("layout", every_layout(), ids=str)
def test_every_layout_trains_like_one_process(layout, trace_of):
    equals_one_process(layout, trace_of)


def test_the_subset_holds_every_value_of_every_dimension():
    every = every_layout()
    assert set(SUBSET) <= set(every)
    for field in Layout.__dataclass_fields__:
        assert {getattr(layout, field) for layout in SUBSET} == {
            getattr(layout, field) for layout in every
        }


@pytest.mark.distributed
@pytest.mark.parametrize("embeddings", ["tied", "untied"])
def test_clipping_is_active_and_the_model_changes(embeddings, trace_of):
    trace = trace_of(Layout(embeddings=embeddings))
    assert sum(norm > 0.5 for _, norm in trace) > STEPS / 2
    assert len({loss for loss, _ in trace}) == STEPS


@pytest.mark.distributed
@pytest.mark.parametrize("embeddings", ["tied", "untied"])
def test_bf16_follows_fp32(embeddings, trace_of):
    wide = trace_of(Layout(embeddings=embeddings))
    narrow = trace_of(Layout(embeddings=embeddings, precision="bf16"))
    assert [loss for loss, _ in narrow] == pytest.approx([loss for loss, _ in wide], rel=2e-2)
    assert narrow != wide


def engines_left() -> int:
    train(make_config(Layout(data=2, zero=2)))
    gc.collect()
    return sum(type(thing).__name__ == "DeepSpeedEngine" for thing in gc.get_objects())


@pytest.mark.distributed
def test_a_process_that_has_left_keeps_no_engine():
    """It would hold process groups, and their threads would wake for ever."""
    assert call_on(2, engines_left) == [0, 0]
