"""Bytes and seconds with answers that are worked out by hand."""

from typing import Any

import pytest

from pretrain.model.flops import model_cost
from pretrain.planning import Layout, Machine
from pretrain.planning.step_time import bubble_fraction, recompute_factor, step_time
from pretrain.planning.traffic import traffic_of
from tests.planning.reality import make_config

GPUS = 16
HIDDEN = 2 * 48 * 64 * 2  # 2 sequences of 48 tokens, width 64, bf16


def layout_of(precision: str = "bf16", recompute: str = "none", **parallel: Any) -> Layout:
    training = {
        "global_batch": 128,
        "micro_batch": 2,
        "precision": precision,
        "recompute": recompute,
    }
    return Layout(make_config(parallel=parallel, training=training), GPUS, 160)


def sent(layout: Layout, group: str, parameters: int = 1600) -> int:
    return getattr(traffic_of(layout, parameters), group).sent


def test_one_rank_sends_nothing():
    layout = Layout(make_config(), 1, 160)
    groups = ("tensor", "pipeline", "gradients", "weights", "tied")
    assert [sent(layout, group) for group in groups] == [0] * 5


@pytest.mark.parametrize(
    "sequence_parallel,recompute,passes",
    [(False, "none", 8), (True, "none", 10), (False, "full", 12), (True, "selective", 12)],
)
def test_tensor_ranks_send_in_every_layer(sequence_parallel, recompute, passes):
    layout = layout_of(recompute=recompute, tensor=4, sequence_parallel=sequence_parallel)
    # 4 layers, 128 / 4 copies / 2 = 16 micro-batches.
    assert sent(layout, "tensor") == 4 * 16 * passes * HIDDEN * 3 // 4


def test_stages_send_each_micro_batch_there_and_back():
    assert sent(layout_of(pipeline=4), "pipeline") == 2 * 16 * HIDDEN
    interleaved = layout_of(pipeline=2, virtual_pipeline=2, tensor=2, sequence_parallel=True)
    assert sent(interleaved, "pipeline") == 2 * 16 * 2 * HIDDEN // 2


@pytest.mark.parametrize(
    "precision,parallel,gradients,weights",
    [
        ("fp32", {}, 2 * 4 * 1500, 0),
        ("bf16", {"zero_stage": 1}, 2 * 4 * 1500, 2 * 1500),
        # 128 / 16 copies / 2 = 4 micro-batches, each of them reduced.
        ("bf16", {"zero_stage": 2}, 4 * 2 * 4 * 1500, 2 * 1500),
        ("bf16", {"zero_stage": 3}, 4 * 4 * 1500, 4 * 2 * 2 * 1500),
    ],
)
def test_copies_reduce_gradients_and_gather_weights(precision, parallel, gradients, weights):
    traffic = traffic_of(layout_of(precision, **parallel), 1600)
    assert (traffic.gradients.sent, traffic.weights.sent) == (gradients, weights)


def test_a_pipeline_reduces_once_and_sums_tied_embeddings():
    layout = layout_of(pipeline=4, zero_stage=2)
    assert sent(layout, "gradients") == 2 * 4 * 1600 * 3 // 4
    assert sent(layout, "tied") == 160 * 64 * 2


def test_the_bubble_shrinks_with_chunks():
    assert bubble_fraction(layout_of(pipeline=4)) == pytest.approx(3 / (16 + 3))
    assert bubble_fraction(layout_of(pipeline=2, virtual_pipeline=2)) == pytest.approx(1 / 17)
    assert bubble_fraction(layout_of(tensor=2)) == 0.0


def test_recomputing_all_layers_adds_their_forward_pass():
    layout = layout_of(recompute="full")
    cost = model_cost(layout.model, 160).flops_per_token
    forward_of_layers = cost / 3 - 2 * 64 * 160
    assert recompute_factor(layout) == pytest.approx(1 + forward_of_layers / cost)
    mlp = 4 * 2 * 2 * 64 * 256
    assert recompute_factor(layout_of(recompute="selective")) == pytest.approx(1 + mlp / cost)


def test_a_step_is_computing_waiting_and_sending():
    layout = layout_of(tensor=2, pipeline=4)
    machine = Machine("some device", 1e12, 0.5, link=1e9, network=1e8, node=8)
    traffic = traffic_of(layout, 1600)
    time = step_time(layout, traffic, machine)
    flops = 128 * 48 * model_cost(layout.model, 160).flops_per_token
    assert time.compute == pytest.approx(flops / (GPUS * 1e12 * 0.5))
    assert time.bubble == pytest.approx(time.compute * 3 / 32)
    assert time.tensor == pytest.approx(traffic.tensor.sent / 1e9)  # within a node
    assert time.pipeline == pytest.approx(traffic.pipeline.sent / 1e8)  # across nodes
    data = (traffic.gradients.sent + traffic.weights.sent) / 1e9 + traffic.tied.sent / 1e8
    assert time.data == pytest.approx(data)
    assert time.mfu == pytest.approx(flops / (GPUS * 1e12 * time.total))


def test_a_reduction_hides_behind_the_backward_pass_without_a_pipeline():
    layout = layout_of(zero_stage=1)
    slow = Machine("some device", 1e9, 0.5, link=1e9, network=1e9, node=8)
    traffic = traffic_of(layout, 1600)
    assert step_time(layout, traffic, slow).data == pytest.approx(traffic.weights.sent / 1e9)
    fast = Machine("some device", 1e18, 0.5, link=1e9, network=1e9, node=8)
    exposed = step_time(layout, traffic, fast).data
    both = (traffic.gradients.sent + traffic.weights.sent) / 1e9
    assert exposed == pytest.approx(both, rel=0.01)
