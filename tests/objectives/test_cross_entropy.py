import pytest
import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy

from pretrain.config import load_config
from pretrain.distributed import topology
from pretrain.objectives import blocks as module
from pretrain.objectives.cross_entropy import linear_cross_entropy
from pretrain.testing.processes import run_gang


def problem(tokens: int, rows: int, dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(tokens)
    hidden = torch.randn(tokens, 8, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(rows, 8, generator=generator).to(dtype).requires_grad_()
    labels = torch.randint(0, rows, (tokens,), generator=generator)
    mask = (torch.rand(tokens, generator=generator) < 0.7).float()
    return hidden, weight, labels, mask


def reference(hidden, weight, labels, mask):
    losses = cross_entropy(hidden.double() @ weight.double().t(), labels, reduction="none")
    return (losses * mask).sum()


@pytest.mark.parametrize("block", [1, 64 * 24, 1 << 20])
@pytest.mark.parametrize("tokens", [1, 64, 65, 200])
def test_loss_and_gradients_equal_cross_entropy(monkeypatch, block, tokens):
    monkeypatch.setitem(module.BLOCK_ELEMENTS, "cpu", block)
    hidden, weight, labels, mask = problem(tokens, 24)
    expected = reference(hidden, weight, labels, mask)
    wanted = torch.autograd.grad(expected * 0.5, (hidden, weight))
    loss = linear_cross_entropy(hidden, weight, labels, mask)
    got = torch.autograd.grad(loss * 0.5, (hidden, weight))
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=1e-6)
    for mine, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, theirs.float(), rtol=1e-5, atol=1e-6)


def test_nothing_that_counts_costs_nothing():
    hidden, weight, labels, _ = problem(20, 24)
    loss = linear_cross_entropy(hidden, weight, labels, torch.zeros(20))
    loss.backward()
    assert loss.item() == 0.0
    assert not hidden.grad.any()
    assert not weight.grad.any()


def test_large_logits_do_not_overflow():
    hidden, weight, labels, mask = problem(16, 10)
    expected = reference(hidden * 1000, weight, labels, mask)
    loss = linear_cross_entropy(hidden * 1000, weight, labels, mask)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-3)


def test_bf16_keeps_the_loss_in_fp32():
    hidden, weight, labels, mask = problem(128, 32, torch.bfloat16)
    loss = linear_cross_entropy(hidden, weight, labels, mask)
    loss.backward()
    assert loss.dtype == torch.float32
    assert hidden.grad.dtype == weight.grad.dtype == torch.bfloat16
    expected = reference(hidden, weight, labels, mask)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-2, atol=0)


def split_loss():
    with topology.start(load_config(None, {"parallel": {"tensor": 2}})) as here:
        hidden, weight, labels, mask = problem(50, 24)
        rank, group = here.tensor.rank, here.tensor.group
        part = weight.detach()[12 * rank : 12 * rank + 12].clone().requires_grad_()
        loss = linear_cross_entropy(hidden, part, labels, mask, group)
        loss.backward()
        dist.all_reduce(hidden.grad, group=group)
        return loss.item(), hidden.grad, part.grad


@pytest.mark.distributed
def test_a_vocabulary_split_over_two_ranks_gives_the_same():
    hidden, weight, labels, mask = problem(50, 24)
    expected = reference(hidden, weight, labels, mask)
    grad_hidden, grad_weight = torch.autograd.grad(expected, (hidden, weight))
    (results,) = run_gang(2, [(split_loss,)])
    for loss, got, _ in results:
        assert loss == pytest.approx(expected.item(), rel=1e-6)
        torch.testing.assert_close(got, grad_hidden.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        torch.cat([part for _, _, part in results]), grad_weight.float(), rtol=1e-5, atol=1e-6
    )
