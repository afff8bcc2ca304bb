"""A step waits for nothing on a GPU, as far as a CPU can show it."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from pretrain.config import load_config
from pretrain.objectives import cross_entropy as loss_module
from tools.gpu import reference
from tools.gpu.stages.parity import compared, waits_of_a_step
from tools.gpu.syncs import counted


def test_what_waits_is_counted_with_its_place():
    values = torch.ones(4)
    with counted("cpu") as waits:
        values[values > 0]
        float(values.sum())
        values.nonzero()
        values + 1
    assert sorted(name.split(" at ")[0] for name in waits) == [
        "_local_scalar_dense", "index", "nonzero",
    ]  # fmt: skip
    assert all("test_syncs.py" in name for name in waits)


def test_deepspeeds_waits_are_counted():
    from deepspeed.accelerator import get_accelerator

    with counted("cpu") as waits:
        get_accelerator().synchronize()
        assert not get_accelerator().resolves_data_dependency()
    assert sum(waits.values()) == 1
    assert get_accelerator().resolves_data_dependency()


def test_a_step_waits_for_nothing():
    """In bf16 under ZeRO, two micro-batches, clipped, spikes watched."""
    assert waits_of_a_step("cpu") == {}


def test_a_step_that_leaves_tokens_out_would_wait():
    found = waits_of_a_step("cpu", leaves_out=True)
    assert {name.split(" at ")[0] for name in found} == {"nonzero"}
    assert sum(found.values()) == 2


def test_the_loss_is_the_same_where_all_tokens_have_logits(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(90, 8, generator=generator).requires_grad_()
    weight = torch.randn(24, 8, generator=generator).requires_grad_()
    labels = torch.randint(0, 24, (90,), generator=generator)
    mask = (torch.rand(90, generator=generator) < 0.5).float()
    losses = cross_entropy(hidden @ weight.t(), labels, reduction="none")
    wanted = torch.autograd.grad((losses * mask).sum(), (hidden, weight))
    monkeypatch.setattr(loss_module, "LEAVES_OUT", frozenset())
    loss = loss_module.linear_cross_entropy(hidden, weight, labels, mask)
    torch.testing.assert_close(loss, (losses * mask).sum())
    for mine, theirs in zip(torch.autograd.grad(loss, (hidden, weight)), wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def overlapping(monkeypatch, overlap, **training):
    """Losses and norms of four steps in bf16 on one rank, reduction overlapping or not."""
    import pretrain.training.engine as module

    plain = module.deepspeed_config

    def asked(*args):
        settings = plain(*args)
        settings["zero_optimization"]["overlap_comm"] = overlap
        return settings

    config = reference.config_of("bf16", "cpu").model_dump(exclude_unset=True)
    config["training"].update(training)
    with monkeypatch.context() as patched:
        patched.setattr(module, "deepspeed_config", asked)
        patched.setattr(reference, "config_of", lambda *_: load_config(None, config))
        return reference.trained("bf16", "cpu", 4)


@pytest.mark.parametrize("micro_batch", [16, 8])
def test_reduction_that_does_not_overlap_gives_the_same_to_the_bit(monkeypatch, micro_batch):
    one, other = (overlapping(monkeypatch, on, micro_batch=micro_batch) for on in (True, False))
    assert one == other


@pytest.mark.parametrize("away,holds", [(0.9e-4, True), (1.1e-4, False)])
def test_figures_are_held_to_their_tolerance(away, holds):
    known = {"loss": [2.0, 4.0], "grad_norm": [1.0, 1.0]}
    found = {"loss": [2.0, 4.0 * (1 + away)], "grad_norm": [1.0, 1.0]}
    result = compared(found, known, {"loss": 1e-4, "grad_norm": 1e-4})
    assert result["holds"] is holds
    assert result["away"]["loss"] == pytest.approx(away)
