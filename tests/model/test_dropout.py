"""Dropout on several tensor ranks: one stream where tensors are split, the same where they are
not; equal to one process in distribution, and the same again in every run."""

import math

import pytest
import torch

from pretrain.distributed import topology
from pretrain.testing.processes import call_on
from tests.distributed.layouts import Layout, make_config, train

DRAWS = 300


def losses_of_draws(config):
    """Loss of one fixed batch under one fixed model, once per draw of dropout, and without it."""
    with topology.start(config) as here:
        from pretrain.model.gpt import build, document_inputs

        chunk = build(config, here, 32)[0]
        tokens = torch.randint(0, 32, (4, 17), generator=torch.Generator().manual_seed(1))
        inputs = {
            "input_ids": tokens[:, :-1],
            **document_inputs(tokens[:, :-1], None),
            "labels": tokens[:, 1:],
            "loss_mask": torch.ones(4, 16),
        }
        with torch.no_grad():
            chunk.train()
            drawn = [float(chunk(**inputs)) / 64 for _ in range(DRAWS)]
            return drawn, float(chunk.eval()(**inputs)) / 64


def mean_and_spread(values):
    values = torch.tensor(values, dtype=torch.float64)
    return float(values.mean()), float(values.std())


@pytest.fixture(scope="module")
def one_process():
    config = make_config(Layout(), dropout=0.1, init_std=0.3)
    return call_on(1, losses_of_draws, config)[0]


@pytest.mark.distributed
@pytest.mark.parametrize("split", ["TP2", "TP2-SP"])
def test_dropout_on_two_tensor_ranks_equals_one_process_in_distribution(split, one_process):
    config = make_config(Layout(split), dropout=0.1, init_std=0.3)
    pair = call_on(2, losses_of_draws, config)
    assert pair[0] == pair[1], "what is not split is dropped alike on both ranks"
    drawn, plain = pair[0]
    expected, expected_plain = one_process
    assert plain == pytest.approx(expected_plain, rel=1e-5)
    (mean, spread), (expected_mean, expected_spread) = map(mean_and_spread, (drawn, expected))
    error = math.hypot(spread, expected_spread) / math.sqrt(DRAWS)
    assert abs(mean - expected_mean) < 4 * error
    # Standard error of a standard deviation: spread / sqrt(2 n).
    assert abs(spread / expected_spread - 1) < 4 * math.sqrt(2 / (2 * DRAWS))
    assert spread > 0.01
    assert len(set(drawn)) == DRAWS


def masks(config):
    """Which of 1000 elements dropout keeps here: where heads are split, and elsewhere."""
    with topology.start(config) as here:
        from megatron.core.tensor_parallel import get_cuda_rng_tracker

        from pretrain.model.gpt import build

        build(config, here, 32)
        ones = torch.ones(1000)
        together = torch.nn.functional.dropout(ones, 0.1)
        with get_cuda_rng_tracker().fork():
            apart = torch.nn.functional.dropout(ones, 0.1)
        return together, apart


@pytest.mark.distributed
def test_tensor_ranks_draw_alike_where_nothing_is_split_and_apart_where_heads_are():
    (together, apart), (other_together, other_apart) = call_on(
        2, masks, make_config(Layout("TP2"), dropout=0.1)
    )
    assert torch.equal(together, other_together)
    assert not torch.equal(apart, other_apart)


@pytest.mark.distributed
def test_data_ranks_and_pipeline_stages_draw_apart():
    for layout in (Layout(data=2), Layout(pipeline="PP2")):
        (one, _), (other, _) = call_on(2, masks, make_config(layout, dropout=0.1))
        assert not torch.equal(one, other)


@pytest.mark.distributed
@pytest.mark.parametrize(
    "layout", [Layout("TP2-SP"), Layout("TP2", "PP2"), Layout(data=2, zero=2)], ids=str
)
def test_two_runs_with_dropout_are_the_same_to_the_bit(layout):
    config = make_config(layout, dropout=0.1)
    first, second = (call_on(layout.ranks, train, config) for _ in range(2))
    assert first == second
    assert first != call_on(layout.ranks, train, make_config(layout))


@pytest.mark.distributed
@pytest.mark.parametrize("recompute", ["selective", "full"])
@pytest.mark.parametrize("layout", [Layout(), Layout("TP2-SP"), Layout(pipeline="PP2")], ids=str)
def test_recomputed_activations_are_dropped_as_they_were(layout, recompute):
    config = make_config(layout, dropout=0.1)
    again = config.model_copy(
        update={"training": config.training.model_copy(update={"recompute": recompute})}
    )
    kept, computed = (call_on(layout.ranks, train, each) for each in (config, again))
    assert kept == computed
