"""What torch.compile makes of a layer: one graph, no break, the same numbers."""

import pytest
import torch

from pretrain.config import load_config
from pretrain.data.batch import made_up_batch
from pretrain.distributed import topology
from pretrain.distributed.ranks import Ranks

SHAPE = {"layers": 2, "hidden_size": 32, "attention_heads": 4, "sequence_length": 16}


def graphs_and_loss(preset, compiled, packed=False):
    """Graphs that were captured, breaks of graphs, and the loss of a training forward pass."""
    import torch._dynamo as dynamo

    config = load_config(
        None,
        {
            "model": {**SHAPE, "preset": preset},
            "training": {"compile": compiled, "global_batch": 2},
            "run": {"device": "cpu"},
        },
    )
    dynamo.reset()
    dynamo.utils.counters.clear()
    batch = made_up_batch(2, 16, 40)
    positions = torch.arange(16).expand(2, 16) % 8 if packed else None
    with topology.start(config, Ranks("none", 0, 1, 0, 1)) as here:
        from pretrain.model.gpt import build, document_inputs

        (chunk,) = build(config, here, 40)
        if compiled:  # captured as for any other compiler, compiled by none
            for layer in chunk.decoder.layers:
                layer.compile(backend="aot_eager")
        loss = chunk(
            input_ids=batch.tokens,
            **document_inputs(batch.tokens, positions),
            labels=batch.labels,
            loss_mask=batch.mask,
        )
        loss.backward()
        gradient = chunk.decoder.layers[0].mlp.linear_fc1.weight.grad.clone()
    counters = dynamo.utils.counters
    return counters["stats"]["unique_graphs"], dict(counters["graph_break"]), loss, gradient


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("preset", ["gpt2", "llama"])
def test_a_layer_is_one_graph_that_all_layers_share(preset, packed):
    graphs, breaks, loss, gradient = graphs_and_loss(preset, True, packed)
    assert graphs == 1
    assert breaks == {}
    _, _, eager, wanted = graphs_and_loss(preset, False, packed)
    torch.testing.assert_close(loss, eager)
    torch.testing.assert_close(gradient, wanted)
