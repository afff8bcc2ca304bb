"""Products by oneDNN and by torch's own choice, against sums in float64."""

import pytest
import torch
from torch.autograd import grad, gradcheck

from pretrain import products
from pretrain.products import SMALLEST, chosen, linear, product

SHAPES = [(1280, 128, 512), (40, 7, 5), (1, 1024, 2048), (0, 4, 5), (3000, 64, 16)]


def close(found, expected):
    scale = expected.abs().amax().item() if expected.numel() else 1.0
    torch.testing.assert_close(found.double(), expected, rtol=0.0, atol=2e-6 * max(scale, 1.0))


@pytest.mark.parametrize("n,k,m", SHAPES)
@pytest.mark.parametrize("biased", [False, True])
def test_products_are_sums_of_products(n, k, m, biased):
    torch.manual_seed(0)
    a, b = torch.randn(n, k), torch.randn(m, k)
    bias = torch.randn(m) if biased else None
    expected = a.double() @ b.double().t() + (0.0 if bias is None else bias.double())
    close(product(a, b, bias), expected)
    # Transposed views of both.
    close(product(a.t().contiguous().t(), b.t().contiguous().t(), bias), expected)


@pytest.mark.parametrize("biased", [False, True])
def test_a_layer_and_its_gradients_are_those_of_torch(biased):
    torch.manual_seed(0)
    x, weight = torch.randn(10, 128, 128, requires_grad=True), torch.randn(384, 128)
    weight.requires_grad_()
    bias = torch.randn(384, requires_grad=True) if biased else None
    inputs = [x, weight] + ([] if bias is None else [bias])
    above = torch.randn(10, 128, 384)
    assert chosen(x, x.numel() * 384)
    found = linear(x, weight, bias)
    doubles = [tensor.detach().double().requires_grad_() for tensor in inputs]
    expected = torch.nn.functional.linear(*doubles)
    assert found.shape == expected.shape
    close(found, expected)
    for own, other in zip(
        grad(found, inputs, above), grad(expected, doubles, above.double()), strict=True
    ):
        assert own.shape == other.shape
        close(own, other)


def test_only_the_gradients_that_are_asked_for_are_computed(monkeypatch):
    x, weight = torch.randn(1280, 128), torch.randn(384, 128, requires_grad=True)
    layer = linear(x, weight)
    calls = []
    monkeypatch.setattr(products, "product", lambda *of: calls.append(of) or product(*of))
    layer.sum().backward()
    assert len(calls) == 1
    assert weight.grad is not None


def test_small_products_and_other_precisions_are_left_to_torch():
    x = torch.randn(8, 128)
    assert not chosen(x, SMALLEST - 1)
    assert chosen(x, SMALLEST)
    assert not chosen(x.double(), SMALLEST)
    assert not chosen(x.bfloat16(), SMALLEST)
    small = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(linear, (small, weight))


def test_the_same_product_has_the_same_bits():
    torch.manual_seed(0)
    a, b = torch.randn(1280, 128), torch.randn(512, 128)
    assert all(torch.equal(product(a, b), product(a.clone(), b.clone())) for _ in range(3))
