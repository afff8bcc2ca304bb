"""The section `model`: the GPT model."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pretrain.config.base import PositiveInt, Section


class ModelConfig(Section):
    """The GPT model."""

    preset: Literal["gpt2", "llama"] = "gpt2"
    """Block style. gpt2: LayerNorm, learned positions, GELU, biases, tied embeddings.
    llama: RMSNorm, rotary positions, SwiGLU, no biases, untied embeddings."""
    layers: PositiveInt = 2
    """Transformer layers."""
    hidden_size: PositiveInt = 128
    """Width of the residual stream."""
    attention_heads: PositiveInt = 4
    """Query heads."""
    kv_heads: PositiveInt | None = None
    """Key and value heads (grouped-query attention); as many as attention_heads if not given."""
    ffn_size: PositiveInt | None = None
    """Inner width of the MLP; 4 x hidden_size (gpt2) or 8/3 x hidden_size rounded up to a
    multiple of 64 (llama) if not given."""
    sequence_length: PositiveInt = 16
    """Tokens per sequence; shorter examples are padded to it."""
    vocabulary_size: PositiveInt | None = None
    """Rows of the embedding; at least the tokenizer's size. If not given, the tokenizer's size
    rounded up to a multiple of parallel.tensor x 8."""
    tie_embeddings: bool | None = None
    """Use the input embedding as the output layer; as the preset does if not given."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Probability of dropout on embeddings, attention and residual branches."""
    init_std: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Standard deviation of initial weights; output projections get it divided by
    sqrt(2 x layers). If not given, sqrt(2 / (5 x hidden_size)) (arXiv 1910.05895): 0.023 at
    width 768, where GPT-2's 0.02 comes from, and 0.056 at width 128."""
    rope_base: PositiveInt = 10_000
    """Base period of rotary positions (llama)."""
    gelu: Literal["exact", "tanh"] = "exact"
    """GELU of gpt2: exact, or the approximation by tanh that OpenAI's GPT-2 was trained with."""

    @property
    def query_groups(self) -> int:
        """Key/value heads, with the default resolved."""
        return self.kv_heads or self.attention_heads

    @property
    def ffn_width(self) -> int:
        """Inner width of the MLP, with the default resolved."""
        if self.ffn_size is not None:
            return self.ffn_size
        if self.preset == "llama":
            return -(-8 * self.hidden_size // 3 // 64) * 64
        return 4 * self.hidden_size

    @property
    def tied(self) -> bool:
        """Whether embeddings are tied, with the default resolved."""
        return self.preset == "gpt2" if self.tie_embeddings is None else self.tie_embeddings

    @property
    def initial_std(self) -> float:
        """Standard deviation of initial weights, with the default resolved."""
        return self.init_std or math.sqrt(2.0 / (5.0 * self.hidden_size))

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelConfig:
        if self.hidden_size % self.attention_heads:
            raise ValueError(
                f"model.hidden_size {self.hidden_size} is not divisible by model.attention_heads "
                f"{self.attention_heads}; choose a multiple"
            )
        if self.attention_heads % self.query_groups:
            raise ValueError(
                f"model.attention_heads {self.attention_heads} is not divisible by model.kv_heads "
                f"{self.query_groups}; choose a divisor"
            )
        if self.preset == "llama" and (self.hidden_size // self.attention_heads) % 2:
            raise ValueError(
                "model.hidden_size / model.attention_heads must be even for rotary positions "
                f"(found {self.hidden_size // self.attention_heads})"
            )
        return self
