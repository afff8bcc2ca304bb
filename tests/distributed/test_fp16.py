"""fp16's scale of the loss. No CPU trains in fp16 in earnest, so DeepSpeed is told that this one
does."""

from unittest.mock import patch

import pytest
import torch

from pretrain.distributed import topology
from pretrain.errors import ConfigError
from pretrain.testing.processes import call_on, run_gang
from tests.distributed.layouts import Layout, make_config, train


def train_in_fp16(config):
    """Losses and norms, and the scale of the loss at the end."""
    from deepspeed.accelerator import get_accelerator

    scales = []
    with (
        patch.object(topology, "check_precision"),
        patch.object(type(get_accelerator()), "is_fp16_supported", return_value=True),
        patch("pretrain.training.engine.Engine.mean_loss", watched(scales)),
    ):
        return train(config), scales


def watched(scales):
    from pretrain.training.engine import Engine

    original = Engine.mean_loss

    def mean_loss(engine, result):
        scales.append(float(engine.optimizer.loss_scale))
        return original(engine, result)

    return mean_loss


@pytest.mark.distributed
@pytest.mark.parametrize(
    "layout", [Layout(), Layout(data=2, zero=1), Layout(pipeline="PP2")], ids=str
)
def test_fp16_follows_fp32_and_lowers_its_scale_where_gradients_overflow(layout):
    wide = call_on(1, train, make_config(Layout()))[0]
    config = make_config(layout)
    training = config.training.model_copy(update={"precision": "fp16"})
    narrow, scales = call_on(
        layout.ranks, train_in_fp16, config.model_copy(update={"training": training})
    )[0]
    skipped = sum(not torch.isfinite(torch.tensor(norm)) for _, norm in narrow)
    assert skipped < 5
    assert scales[-1] == 2.0 ** (16 - max(0, skipped - 1))  # the first is forgiven (hysteresis 2)
    losses = [loss for loss, _ in narrow]
    assert losses[0] == pytest.approx(wide[0][0], rel=1e-3)
    assert losses[-1] == pytest.approx(wide[-1][0], rel=0.1)


def test_fp16_is_refused_on_a_cpu():
    config = make_config(Layout())
    training = config.training.model_copy(update={"precision": "fp16"})
    refused = config.model_copy(update={"training": training})
    with pytest.raises(ConfigError, match=r"training\.precision fp16 needs a GPU"):
        topology.check_precision(refused.training.precision, torch.device("cpu"))
    with pytest.raises(RuntimeError, match="precision fp16 needs a GPU"):
        run_gang(1, [(train, refused)])
