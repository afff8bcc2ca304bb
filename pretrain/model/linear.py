"""Megatron-Core's parallel linear layers, without their cost where nothing is parallel.

On one tensor-parallel rank both are a plain linear layer, bias included, which is faster than
Megatron's autograd function followed by an addition.
"""

from __future__ import annotations

from typing import Any

from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear
from torch import Tensor

from pretrain.products import linear

Output = tuple[Tensor, Tensor | None]


class ColumnLinear(ColumnParallelLinear):
    """Weight rows split over tensor-parallel ranks. [s, b, in] -> [s, b, out / tensor]."""

    def forward(self, input_: Tensor, weight: Tensor | None = None, *args: Any) -> Output:
        """Output, and the bias where it is left to the caller to add."""
        if self.tp_group.size() > 1:
            output: Output = super().forward(input_, weight, *args)
            return output
        return linear(input_, self.weight if weight is None else weight, self.bias), None


class RowLinear(RowParallelLinear):
    """Weight columns split over tensor-parallel ranks. [s, b, in / tensor] -> [s, b, out]."""

    def forward(self, input_: Tensor) -> Output:
        """Output, and the bias where it is left to the caller to add."""
        if self.tp_group.size() > 1:
            output, bias = super().forward(input_)
            # A view: recomputation makes what it returns a part of its graph, and must not do so
            # with the parameter itself.
            return output, None if bias is None else bias.view_as(bias)
        return linear(input_, self.weight, self.bias), None
