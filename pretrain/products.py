"""Matrix products and linear layers in fp32 on a CPU, by the faster of the two libraries in torch.

torch hands fp32 products to MKL, and only lower precisions to oneDNN. MKL does not use AVX-512 on
AMD's processors, which have had it since 2022: there oneDNN is up to 2.3 times as fast at what a
model multiplies. What it gives differs in the last bits, and is the same at every run.
`python -m tools.bench.products` compares the two on the machine it runs on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear as torch_linear

SMALLEST = 1 << 20
"""Multiplications from which oneDNN is called: below, its call costs more than it saves."""


def chosen(a: Tensor, multiplications: int) -> bool:
    """Whether oneDNN multiplies: fp32 on a CPU, large enough, and not while torch.compile looks on,
    which chooses for itself."""
    return (
        a.dtype == torch.float32
        and a.device.type == "cpu"
        and multiplications >= SMALLEST
        and torch.backends.mkldnn.is_available()
        and not torch.compiler.is_compiling()
    )


def product(a_nk: Tensor, b_mk: Tensor, bias_m: Tensor | None = None) -> Tensor:
    """a b^T + bias, [n, m], without gradients of its own. Both may be transposed views."""
    if chosen(a_nk, a_nk.numel() * b_mk.size(0)):
        found: Tensor = torch.ops.mkldnn._linear_pointwise(a_nk, b_mk, bias_m, "none", [], "")
        return found
    return torch_linear(a_nk, b_mk, bias_m)


def linear(input_: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`: [..., in], [out, in], [out] -> [..., out]."""
    if chosen(input_, input_.numel() * weight.size(0)):
        found: Tensor = _Linear.apply(input_, weight, bias)
        return found
    return torch_linear(input_, weight, bias)


class _Linear(torch.autograd.Function):
    """:func:`linear` with all three products of a layer by :func:`product`."""

    @staticmethod
    def forward(ctx: Any, input_: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input_, weight)
        ctx.biased = bias is not None
        flat_nk = input_.reshape(-1, input_.size(-1))
        return product(flat_nk, weight, bias).view(*input_.shape[:-1], weight.size(0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        input_, weight = ctx.saved_tensors
        flat_nk = input_.reshape(-1, input_.size(-1))
        grad_nm = outputs[0].reshape(-1, weight.size(0))
        wants_input, wants_weight, wants_bias = ctx.needs_input_grad
        return (
            product(grad_nm, weight.t()).view_as(input_) if wants_input else None,
            product(grad_nm.t(), flat_nk.t()) if wants_weight else None,
            grad_nm.sum(0) if ctx.biased and wants_bias else None,
        )
