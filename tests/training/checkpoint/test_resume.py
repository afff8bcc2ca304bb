"""A run that is stopped and gone on with is the run that was never stopped."""

from dataclasses import replace

import pytest
import torch

from pretrain.testing.processes import call_on
from tests.distributed.layouts import Layout, make_config
from tests.training.checkpoint.stretches import state_in, stretch

HALF, LONG_HALF, FURTHER = 6, 20, 10

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
@pytest.mark.parametrize(
    "half", [HALF, pytest.param(LONG_HALF, marks=pytest.mark.parity)], ids=lambda n: f"{n}+{n}"
)
@pytest.mark.parametrize("layout", SAME_LAYOUT, ids=str)
def test_a_resumed_run_is_the_same_to_the_bit(layout, half, tmp_path):
    config = make_config(layout, dropout=0.1)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    uninterrupted = call_on(layout.ranks, stretch, config, whole, 2 * half)[0]
    before = call_on(layout.ranks, stretch, config, parts, half)[0]
    after = call_on(layout.ranks, stretch, config, parts, 2 * half)[0]
    assert len(uninterrupted) == 2 * half
    assert before + after == uninterrupted
    expected, found = state_in(whole, 2 * half), state_in(parts, 2 * half)
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
def test_another_layout_goes_on_as_if_nothing_had_happened(change, tmp_path):
    before, after = change
    uninterrupted = call_on(
        before.ranks, stretch, make_config(before), tmp_path / "whole", HALF + FURTHER
    )[0]
    call_on(before.ranks, stretch, make_config(before), tmp_path / "moved", HALF)
    moved = call_on(after.ranks, stretch, make_config(after), tmp_path / "moved", HALF + FURTHER)[0]
    expected = uninterrupted[HALF:]
    assert [loss for loss, _ in moved] == pytest.approx([loss for loss, _ in expected], rel=1e-4)
    assert [norm for _, norm in moved] == pytest.approx([norm for _, norm in expected], rel=1e-3)


@pytest.mark.distributed
def test_a_checkpoint_alone_does_not_change_with_the_layout_that_reads_it(tmp_path):
    first = Layout("TP2", "PP2", data=2, zero=1, embeddings="untied")
    call_on(8, stretch, make_config(first), tmp_path, HALF)
    expected = state_in(tmp_path, HALF)
    for layout in (Layout(embeddings="untied"), Layout(data=2, zero=3, embeddings="untied")):
        call_on(layout.ranks, stretch, make_config(layout), tmp_path, HALF)
        found = state_in(tmp_path, HALF)
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
