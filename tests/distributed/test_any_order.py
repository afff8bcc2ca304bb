"""Training on every order: the same from any number of ranks, in any layout, and after a resume."""

import pytest
import torch

from pretrain.testing.processes import call_on
from tests.distributed.any_order import LINEAR, any_order_config, batches_of, train
from tests.distributed.layouts import STEPS, Layout
from tests.training.checkpoint.stretches import state_in

pytestmark = pytest.mark.distributed

TO_REVERSE = {
    "strategy": "any_order", "criterion": "reverse", "anneal_to": "criterion",
    "anneal_from": 0.0, "anneal_until": 0.0,
}  # fmt: skip
"""In one order from the first step on."""


@pytest.fixture(scope="module")
def alone():
    """The training on one process, for both kinds of embeddings."""
    return {
        embeddings: call_on(1, train, any_order_config(Layout(embeddings=embeddings), LINEAR))[0]
        for embeddings in ("tied", "untied")
    }


@pytest.mark.parametrize(
    "layout",
    [
        Layout("TP2"),
        Layout("TP2-SP", embeddings="untied"),
        Layout(pipeline="PP2"),
        Layout(pipeline="PP2-interleaved", embeddings="untied"),
        Layout(data=2, zero=2),
        Layout(data=2, zero=3, embeddings="untied"),
        Layout("TP2", "PP2"),
    ],
    ids=str,
)
def test_a_layout_trains_like_one_process(layout, alone):
    found = call_on(layout.ranks, train, any_order_config(layout, LINEAR))

    assert all(trace == found[0] for trace in found), "ranks do not agree"
    expected = alone[layout.embeddings]
    assert len(expected) == STEPS
    assert [loss for loss, _ in found[0]] == pytest.approx([x for x, _ in expected], rel=1e-5)
    assert [norm for _, norm in found[0]] == pytest.approx([x for _, x in expected], rel=1e-4)


@pytest.mark.parametrize("layout", [Layout(), Layout("TP2", "PP2")], ids=str)
def test_a_run_goes_on_to_the_bit_in_the_middle_of_annealing(layout, tmp_path):
    config = any_order_config(layout, LINEAR, dropout=0.1)
    middle = 8  # annealed from step 4 to 12
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    uninterrupted = call_on(layout.ranks, train, config, whole, STEPS)[0]
    before = call_on(layout.ranks, train, config, parts, middle)[0]
    after = call_on(layout.ranks, train, config, parts, STEPS)[0]

    assert before + after == uninterrupted
    expected, found = state_in(whole, STEPS), state_in(parts, STEPS)
    assert expected.keys() == found.keys()
    assert any("tokentype_embeddings.asked" in name for name in found)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_the_orders_of_a_step_are_the_same_from_any_number_of_ranks():
    config = any_order_config(Layout(), LINEAR)
    (whole,) = call_on(1, batches_of, config, 9)
    halves = call_on(2, batches_of, config, 9)

    for one, first, second in zip(whole, *halves, strict=True):
        assert first + second == one
    asked = {tuple(row[5:9]) for row in whole[3]}
    assert len(asked) > 3
    assert (6, 7, 8, 9) in asked  # natural order


def test_one_order_from_the_start_trains_as_that_order_does():
    """The same batches; and the same losses, as long as the model makes nothing of being told."""
    drawn = any_order_config(Layout(), TO_REVERSE)
    fixed = any_order_config(Layout(), {"strategy": "fixed", "fixed": [3, 2, 1, 0]})
    for step in (0, 7):
        (*same, asked), expected = (
            call_on(1, batches_of, each, step)[0] for each in (drawn, fixed)
        )
        assert same == expected
        assert {tuple(row) for row in asked} == {(1, 2, 3, 4, 5, 9, 8, 7, 6, 10)}

    assert call_on(1, train, drawn, None, STEPS, True) == call_on(1, train, fixed)
