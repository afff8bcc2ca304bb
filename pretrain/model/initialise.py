"""Initial weights that do not depend on the layout.

Each parameter is drawn in full from a generator seeded by its global name, and a tensor-parallel
rank keeps its slice: one process and any number of ranks start from the same model.
"""

from __future__ import annotations

import hashlib
import math
import re

import torch
from megatron.core.models.gpt import GPTModel
from megatron.core.tensor_parallel.layers import (
    ColumnParallelLinear,
    RowParallelLinear,
    VocabParallelEmbedding,
    set_tensor_model_parallel_attributes,
)
from torch import Tensor
from torch.nn import Parameter

from pretrain.config import ModelConfig
from pretrain.model.slices import take_slice

_LAYER = re.compile(r"^decoder\.layers\.(\d+)\.")


def global_name(chunk: GPTModel, name: str) -> str:
    """Name of a parameter of a pipeline chunk as the undivided model calls it."""
    match = _LAYER.match(name)
    if match:
        number = chunk.decoder.layers[int(match[1])].layer_number - 1
        return _LAYER.sub(f"decoder.layers.{number}.", name)
    if name == "output_layer.weight" and chunk.share_embeddings_and_output_weights:
        return "embedding.word_embeddings.weight"
    return name


def split_dimension(parameter: Parameter) -> int | None:
    """Dimension along which tensor-parallel ranks split a parameter; None if each holds all."""
    if not getattr(parameter, "tensor_model_parallel", False):
        return None
    return int(parameter.partition_dim)  # type: ignore[attr-defined]


def mark_split(chunk: GPTModel, gated: bool) -> None:
    """Record on every parameter how tensor-parallel ranks split it.

    Megatron-Core does so only while it draws initial weights itself. Stride 2 marks the two halves
    of a gated MLP's first layer, each of which is split on its own.
    """
    for name, module in chunk.named_modules():
        if isinstance(module, VocabParallelEmbedding | ColumnParallelLinear):
            stride = 2 if gated and name.endswith("mlp.linear_fc1") else 1
            for parameter in (module.weight, getattr(module, "bias", None)):
                if parameter is not None:
                    _mark(parameter, 0, stride)
        elif isinstance(module, RowParallelLinear):
            _mark(module.weight, 1, 1)


def _mark(parameter: Parameter, dimension: int, stride: int) -> None:
    for attribute in ("tensor_model_parallel", "partition_dim", "partition_stride"):
        if hasattr(parameter, attribute):
            delattr(parameter, attribute)
    set_tensor_model_parallel_attributes(parameter, True, dimension, stride)


def _draw(name: str, shape: list[int], model: ModelConfig, seed: int) -> Tensor:
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "bias":
        return torch.zeros(shape)
    if "layernorm" in name:
        return torch.ones(shape)
    std = model.initial_std
    if name.endswith(("self_attention.linear_proj.weight", "mlp.linear_fc2.weight")):
        std /= math.sqrt(2.0 * model.layers)
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.empty(shape).normal_(0.0, std, generator=generator)


@torch.no_grad()
def initialise(
    chunk: GPTModel, model: ModelConfig, seed: int, tensor_rank: int, tensor_size: int
) -> None:
    """Overwrite the parameters of a pipeline chunk with the initial weights of `seed`.

    Norm weights are 1, biases 0, matrices normal with `initial_std`; the two projections back into
    the residual stream are divided by sqrt(2 x layers) (GPT-2, section 2.3).
    """
    for local_name, parameter in chunk.named_parameters():
        name = global_name(chunk, local_name)
        shape = list(parameter.shape)
        dimension = split_dimension(parameter)
        if dimension is not None:
            shape[dimension] *= tensor_size
        full = _draw(name, shape, model, seed)
        if dimension is not None:
            stride = parameter.partition_stride
            full = take_slice(full, dimension, stride, tensor_rank, tensor_size)
        parameter.copy_(full)
