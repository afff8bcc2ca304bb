"""A run that is stopped and gone on with is the run that was never stopped."""

from dataclasses import replace

import pytest
import torch

from tests.distributed.layouts import Layout, make_config
from tests.training.checkpoint.stretches import state_in, stretch

HALF, END, FURTHER = 6, 12, 10

SAME_LAYOUT = [
    Layout(),
    Layout(precision="bf16"),
    Layout(data=2, zero=0),
    Layout(data=2, zero=1),
    Layout(data=2, zero=1, precision="bf16"),
    Layout(data=2, zero=2, embeddings="untied"),
    Layout(data=2, zero=2, precision="bf16"),
    Layout(data=2, zero=3),
    Layout(data=2, zero=3, precision="bf16", embeddings="untied"),
    Layout("TP2-SP", recompute="full"),
    Layout(pipeline="PP2-interleaved", zero=2),
    Layout("TP2", "PP2", embeddings="untied"),
    Layout("TP2", "PP2", precision="bf16", zero=1),
]


@pytest.mark.distributed
@pytest.mark.parametrize("layout", SAME_LAYOUT, ids=str)
def test_a_resumed_run_is_the_same_to_the_bit(layout, tmp_path, gangs):
    config = make_config(layout, dropout=0.1)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    uninterrupted = gangs.call(layout.ranks, stretch, config, whole, END)[0]
    before = gangs.call(layout.ranks, stretch, config, parts, HALF)[0]
    after = gangs.call(layout.ranks, stretch, config, parts, END)[0]
    assert before + after == uninterrupted
    expected, found = state_in(whole, END), state_in(parts, END)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


UNTIED = Layout(embeddings="untied")
CHANGES = [
    (Layout(data=2, zero=1), Layout(data=4, zero=1)),
    (Layout(data=4, zero=1), Layout()),
    (replace(UNTIED, split="TP2", pipeline="PP2"), UNTIED),
    (UNTIED, replace(UNTIED, split="TP2-SP", pipeline="PP2")),
    (Layout("TP2", "PP2"), Layout(pipeline="PP2-interleaved")),
    (Layout(data=2, zero=1), Layout(data=2, zero=3)),
    (replace(UNTIED, data=2, zero=3), replace(UNTIED, split="TP2", data=2, zero=2)),
]


@pytest.mark.distributed
@pytest.mark.parametrize("change", CHANGES, ids=lambda pair: f"{pair[0]} to {pair[1]}")
def test_another_layout_goes_on_as_if_nothing_had_happened(change, tmp_path, gangs):
    before, after = change
    uninterrupted = gangs.call(
        before.ranks, stretch, make_config(before), tmp_path / "whole", HALF + FURTHER
    )[0]
    gangs.call(before.ranks, stretch, make_config(before), tmp_path / "moved", HALF)
    moved = gangs.call(
        after.ranks, stretch, make_config(after), tmp_path / "moved", HALF + FURTHER
    )[0]
    expected = uninterrupted[HALF:]
    assert [loss for loss, _ in moved] == pytest.approx([loss for loss, _ in expected], rel=1e-4)
    assert [norm for _, norm in moved] == pytest.approx([norm for _, norm in expected], rel=1e-3)


@pytest.mark.distributed
def test_a_checkpoint_alone_does_not_change_with_the_layout_that_reads_it(tmp_path, gangs):
    first = Layout("TP2", "PP2", data=2, zero=1, embeddings="untied")
    gangs.call(8, stretch, make_config(first), tmp_path, HALF)
    expected = state_in(tmp_path, HALF)
    for layout in (Layout(embeddings="untied"), Layout(data=2, zero=3, embeddings="untied")):
        gangs.call(layout.ranks, stretch, make_config(layout), tmp_path, HALF)
        found = state_in(tmp_path, HALF)
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
