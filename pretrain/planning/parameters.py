"""Parameters that a rank holds, tensor by tensor, before ZeRO shards them.

ZeRO pads and cuts flat groups of tensors, one of matrices and one of vectors (biases and norms), so
sizes are listed one by one in the order of the modules.
"""

from __future__ import annotations

from dataclasses import dataclass

from pretrain.config import ModelConfig
from pretrain.planning.layout import Layout


@dataclass(frozen=True)
class Held:
    """Parameters of one rank.

    Attributes:
        matrices: elements of each matrix, in the order of the modules.
        vectors: elements of each bias and norm weight.
        count: elements in all.
    """

    matrices: tuple[int, ...]
    vectors: tuple[int, ...]
    count: int


def held_by(layout: Layout, stage: int) -> Held:
    """Parameters of a rank of pipeline stage `stage`.

    The first stage holds the embeddings, the last one the final norm and the output projection;
    tied embeddings exist on both. What the objective has of its own comes last.
    """
    model, p = layout.model, layout.parallel
    h, rows = model.hidden_size, layout.vocabulary // p.tensor
    first, last = stage == 0, stage == p.pipeline - 1
    matrices, vectors = _layer(model, p.tensor)
    layers = model.layers // p.pipeline
    begin: list[int] = []
    if first:
        begin.append(rows * h)
        if not model.style.rotary:
            begin.append(model.sequence_length * h)
        if layout.config.asks_units:
            begin += [(model.sequence_length + 1) * h] * 2
    end = [rows * h] if last and not (model.tied and first) else []
    if last:
        end += layout.objective.matrices(h, rows)
    all_matrices = (*begin, *matrices * layers, *end)
    all_vectors = vectors * layers + (_norm(model) if last else ())
    return Held(all_matrices, all_vectors, sum(all_matrices) + sum(all_vectors))


def _norm(model: ModelConfig) -> tuple[int, ...]:
    return (model.hidden_size,) * model.style.norm_vectors


def _layer(model: ModelConfig, tensor: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Matrices and vectors of one layer: norm, output projection, QKV, norm, the MLP's two."""
    h = model.hidden_size
    qkv = (h + 2 * model.query_groups * (h // model.attention_heads)) // tensor
    inner = model.ffn_width * model.style.mlp_inputs // tensor
    back = model.ffn_width // tensor
    matrices = (h * h // tensor, qkv * h, inner * h, h * back)
    norm = _norm(model)
    if model.style.biases:
        return matrices, (*norm, h, qkv, *norm, inner, h)
    return matrices, norm * 2
