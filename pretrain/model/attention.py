"""Core attention through torch's `scaled_dot_product_attention`.

Shapes: s sequence, b batch, n query heads of this rank, g key/value heads of this rank, d head
width.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from megatron.core.tensor_parallel import get_cuda_rng_tracker
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


class SdpaCoreAttention(MegatronModule):
    """Causal attention for a Megatron-Core layer spec; flash or memory-efficient where torch can.

    An attention mask, where there is one, says all that is seen (:func:`document_mask`).

    Raises:
        ValueError: context parallelism or a mask other than causal is asked for.
    """

    def __init__(
        self,
        config: TransformerConfig,
        layer_number: int,
        attn_mask_type: AttnMaskType,
        attention_type: str,
        softmax_scale: float | None = None,
        **_: Any,
    ) -> None:
        super().__init__(config=config)
        if config.context_parallel_size != 1:
            raise ValueError("SdpaCoreAttention does not support context parallelism")
        if attn_mask_type != AttnMaskType.causal:
            raise ValueError(f"SdpaCoreAttention is causal, found {attn_mask_type}")
        self.scale = softmax_scale
        self.dropout = config.attention_dropout

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **_: Any
    ) -> Tensor:
        """query [s, b, n, d], key and value [s, b, g, d] -> [s, b, n * d].

        attention_mask: [b, 1, s, s] bool, True where a key is seen; None for causal attention.
        """
        # [s, b, n, d] -> [b, n, s, d] as a view
        query_bnsd, key_bgsd, value_bgsd = (x.permute(1, 2, 0, 3) for x in (query, key, value))
        attend = partial(
            self._attend,
            query_bnsd,
            key_bgsd,
            value_bgsd,
            attention_mask,
            query_bnsd.size(1) != key_bgsd.size(1),
        )
        dropout = self.dropout if self.training else 0.0
        # Heads are split over tensor-parallel ranks: each rank draws from its own stream. Under
        # sequence parallelism the whole block does, and recomputation cannot go back into a stream
        # that was entered twice.
        if dropout > 0.0 and not self.config.sequence_parallel:
            with get_cuda_rng_tracker().fork():
                out_bnsd = attend(dropout)
        else:
            out_bnsd = attend(dropout)
        return out_bnsd.permute(2, 0, 1, 3).reshape(query.size(0), query.size(1), -1)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, grouped: bool, dropout: float
    ) -> Tensor:
        out: Tensor = scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=mask is None,
            scale=self.scale,
            enable_gqa=grouped,
        )
        return out


def document_mask(positions: Tensor) -> Tensor:
    """[b, 1, s, s] bool: which keys each query sees, those of its own document up to itself.

    Causal and block-diagonal. A learned position says where in its document a token stands; rotary
    ones compare tokens of one document only, so they need not begin anew.

    Args:
        positions: [b, s] place of each token in its document; 0 begins one.
    """
    document_bs = (positions == 0).cumsum(dim=1)
    same = document_bs[:, None, :, None] == document_bs[:, None, None, :]
    return same.tril_()


class Norm(torch.nn.Module):
    """LayerNorm or RMSNorm as `config.normalization` says.

    Megatron-Core's wrapper around torch's norms refuses sequence parallelism; this one marks its
    parameters so that their gradients, each computed on a part of the sequence, are summed.
    """

    def __init__(
        self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5, **_: Any
    ) -> None:
        super().__init__()
        self.shape = (hidden_size,)
        self.eps = eps
        self.weight = torch.nn.Parameter(torch.ones(hidden_size, dtype=config.params_dtype))
        self.bias: torch.nn.Parameter | None = None
        if config.normalization == "LayerNorm":
            self.bias = torch.nn.Parameter(torch.zeros(hidden_size, dtype=config.params_dtype))
        for parameter in self.parameters():
            parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., h] -> [..., h]."""
        if self.bias is None:
            return torch.nn.functional.rms_norm(hidden, self.shape, self.weight, self.eps)
        return torch.nn.functional.layer_norm(hidden, self.shape, self.weight, self.bias, self.eps)
