"""Which tensors of Hugging Face's GPT-2 and Llama hold the same numbers as a parameter of ours.

Ours keeps query, key and value of a group of heads next to each other, and the two halves of a
gated MLP in one matrix; Hugging Face keeps them apart (Llama) or all queries first (GPT-2), and
GPT-2's matrices stand transposed there.

Shapes: h hidden, f inner width of the MLP, v rows of the embedding, d width of a head, g groups of
heads that share a key and a value, q queries of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pretrain.config import ModelConfig
from pretrain.config.block_style import GPT2

Shape = tuple[int, ...]


def _one(full: Tensor) -> list[Tensor]:
    return [full]


def _only(parts: Sequence[Tensor]) -> Tensor:
    (part,) = parts
    return part


@dataclass(frozen=True)
class Link:
    """A parameter of ours, and the tensors of Hugging Face's that hold its numbers.

    Attributes:
        ours: global name.
        shape: of ours.
        theirs: name -> shape.
        split: ours -> theirs, in their order.
        join: theirs -> ours.
    """

    ours: str
    shape: Shape
    theirs: dict[str, Shape]
    split: Callable[[Tensor], list[Tensor]] = _one
    join: Callable[[Sequence[Tensor]], Tensor] = _only


@dataclass(frozen=True)
class Heads:
    """How query, key and value lie in our one matrix: g groups of (q queries, a key, a value)."""

    groups: int
    queries: int
    width: int

    @classmethod
    def of(cls, model: ModelConfig) -> Heads:
        """Of a model."""
        heads, groups = model.attention_heads, model.query_groups
        return cls(groups, heads // groups, model.hidden_size // heads)

    def split(self, full: Tensor) -> list[Tensor]:
        """[g (q + 2) d, ...] -> query [g q d, ...], key and value [g d, ...]."""
        blocks = full.view(self.groups, self.queries + 2, self.width, *full.shape[1:])
        ranges = ((0, self.queries), (self.queries, 1), (self.queries + 1, 1))
        return [blocks.narrow(1, *each).reshape(-1, *full.shape[1:]) for each in ranges]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Inverse of :meth:`split`."""
        rest = parts[0].shape[1:]
        blocks = [part.reshape(self.groups, -1, self.width, *rest) for part in parts]
        return torch.cat(blocks, dim=1).reshape(-1, *rest)

    def split_full(self, full: Tensor) -> list[Tensor]:
        """As :meth:`split`, joined, with a key and a value for each query: [3 h, ...]."""
        query, *shared = self.split(full)
        rest = full.shape[1:]
        own = [
            part.view(self.groups, self.width, *rest).repeat_interleave(self.queries, dim=0)
            for part in shared
        ]
        return [torch.cat([query, *(part.reshape(-1, *rest) for part in own)])]

    def join_full(self, parts: Sequence[Tensor]) -> Tensor:
        """Inverse of :meth:`split_full` where each query has a key and a value of its own."""
        return self.join(_only(parts).chunk(3))


def _transposed(full: Tensor) -> list[Tensor]:
    return [full.t()]


def _transposed_back(parts: Sequence[Tensor]) -> Tensor:
    return _only(parts).t()


def links(model: ModelConfig, rows: int) -> Iterator[Link]:
    """Every parameter of a model.

    Args:
        rows: of the embedding.
    """
    yield from _gpt2(model, rows) if model.style == GPT2 else _llama(model, rows)
    if not model.tied:
        yield _same("output_layer.weight", "lm_head.weight", rows, model.hidden_size)


def _same(ours: str, theirs: str, *shape: int) -> Link:
    return Link(ours, shape, {theirs: shape})


def _gpt2(model: ModelConfig, rows: int) -> Iterator[Link]:
    h, f = model.hidden_size, model.ffn_width
    heads = Heads.of(model)
    qkv = heads.groups * (heads.queries + 2) * heads.width
    yield _same("embedding.word_embeddings.weight", "transformer.wte.weight", rows, h)
    positions = (model.sequence_length, h)
    yield _same("embedding.position_embeddings.weight", "transformer.wpe.weight", *positions)
    for number in range(model.layers):
        ours, theirs = f"decoder.layers.{number}.", f"transformer.h.{number}."

        def norm(a: str, b: str, ours: str = ours, theirs: str = theirs) -> Iterator[Link]:
            for leaf in ("weight", "bias"):
                yield _same(f"{ours}{a}.{leaf}", f"{theirs}{b}.{leaf}", h)

        def linear(
            a: str, b: str, outputs: int, inputs: int, ours: str = ours, theirs: str = theirs
        ) -> Iterator[Link]:
            yield Link(
                f"{ours}{a}.weight",
                (outputs, inputs),
                {f"{theirs}{b}.weight": (inputs, outputs)},
                _transposed,
                _transposed_back,
            )
            yield _same(f"{ours}{a}.bias", f"{theirs}{b}.bias", outputs)

        yield from norm("input_layernorm", "ln_1")
        yield Link(
            f"{ours}self_attention.linear_qkv.weight",
            (qkv, h),
            {f"{theirs}attn.c_attn.weight": (h, 3 * h)},
            lambda full: _transposed(_only(heads.split_full(full))),
            lambda parts: heads.join_full([_transposed_back(parts)]),
        )
        yield Link(
            f"{ours}self_attention.linear_qkv.bias",
            (qkv,),
            {f"{theirs}attn.c_attn.bias": (3 * h,)},
            heads.split_full,
            heads.join_full,
        )
        yield from linear("self_attention.linear_proj", "attn.c_proj", h, h)
        yield from norm("pre_mlp_layernorm", "ln_2")
        yield from linear("mlp.linear_fc1", "mlp.c_fc", f, h)
        yield from linear("mlp.linear_fc2", "mlp.c_proj", h, f)
    for leaf in ("weight", "bias"):
        yield _same(f"decoder.final_layernorm.{leaf}", f"transformer.ln_f.{leaf}", h)


def _llama(model: ModelConfig, rows: int) -> Iterator[Link]:
    h, f = model.hidden_size, model.ffn_width
    heads = Heads.of(model)
    shared = heads.groups * heads.width
    yield _same("embedding.word_embeddings.weight", "model.embed_tokens.weight", rows, h)
    for number in range(model.layers):
        ours, theirs = f"decoder.layers.{number}.", f"model.layers.{number}."
        yield _same(f"{ours}input_layernorm.weight", f"{theirs}input_layernorm.weight", h)
        attention = f"{theirs}self_attn."
        yield Link(
            f"{ours}self_attention.linear_qkv.weight",
            (h + 2 * shared, h),
            {
                f"{attention}q_proj.weight": (h, h),
                f"{attention}k_proj.weight": (shared, h),
                f"{attention}v_proj.weight": (shared, h),
            },
            heads.split,
            heads.join,
        )
        yield _same(f"{ours}self_attention.linear_proj.weight", f"{attention}o_proj.weight", h, h)
        norm = f"{theirs}post_attention_layernorm.weight"
        yield _same(f"{ours}pre_mlp_layernorm.weight", norm, h)
        yield Link(
            f"{ours}mlp.linear_fc1.weight",
            (2 * f, h),
            {f"{theirs}mlp.gate_proj.weight": (f, h), f"{theirs}mlp.up_proj.weight": (f, h)},
            lambda full: list(full.chunk(2)),
            lambda parts: torch.cat(list(parts)),
        )
        yield _same(f"{ours}mlp.linear_fc2.weight", f"{theirs}mlp.down_proj.weight", h, f)
    yield _same("decoder.final_layernorm.weight", "model.norm.weight", h)
