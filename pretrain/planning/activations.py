"""Bytes that the forward pass keeps for the backward pass on one rank.

After Korthikanti et al. (arXiv 2205.05198), section 4, for this layer: attention through
`scaled_dot_product_attention` keeps no s x s matrix but the log-sum-exp of each row, and the loss
keeps its own gradients instead of logits. Symbols: n tokens of a micro-batch, h hidden, q and k
widths of queries and of keys (or values) on this rank, f inner width of the MLP on this rank, w
bytes of an element, u ranks that split the sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

from pretrain.objectives.base import Piece
from pretrain.planning.layout import Layout


@dataclass(frozen=True)
class Activations:
    """Activations of a rank.

    Attributes:
        kept: bytes that all micro-batches in flight keep.
        working: bytes that live for a moment beside them: what one layer computes again, its
            gradients, or a block of logits.
    """

    kept: int
    working: int


def in_flight(layout: Layout, stage: int) -> int:
    """Chunks of micro-batches whose activations a stage keeps at most.

    1F1B: min(m, p - stage). Interleaved with v chunks per stage:
    min(m v, 2 (p - stage - 1) + (v - 1) p + 1). m micro-batches, p stages.
    """
    pipeline, virtual = layout.parallel.pipeline, layout.parallel.virtual_pipeline
    waiting = pipeline - stage - 1
    if virtual == 1:
        return min(layout.micro_batches, waiting + 1)
    warm_up = 2 * waiting + (virtual - 1) * pipeline
    return min(layout.micro_batches * virtual, warm_up + 1)


def activations(layout: Layout, stage: int, recompute: str | None = None) -> Activations:
    """Activations of a rank of pipeline stage `stage`.

    Args:
        recompute: another setting than `training.recompute`.
    """
    recompute = recompute or layout.config.training.recompute
    p = layout.parallel
    last = stage == p.pipeline - 1
    full = _attention(layout) + _mlp(layout)
    layer = {
        "none": full,
        "selective": _attention(layout) + _norm_and_input(layout) + _dropout_mask(layout),
        "full": layout.micro_tokens * layout.model.hidden_size * layout.width
        // layout.sequence_split,
    }[recompute]  # fmt: skip
    chunk = layout.model.layers // (p.pipeline * p.virtual_pipeline) * layer
    if layout.masked and recompute == "full":
        chunk += _mask(layout, 1)
    if not (last and p.virtual_pipeline == 1):
        chunk += _hidden(layout)  # the output that the schedule keeps
    chunks = in_flight(layout, stage)
    kept = chunks * chunk
    if stage == 0:
        kept += -(-chunks // p.virtual_pipeline) * _embedding(layout)
    if last:
        kept += _loss(layout)
    working = layout.micro_tokens * layout.width * _gradient_width(layout)
    if recompute != "none":
        working += full - layer
    return Activations(kept, max(working, _loss_working(layout) if last else 0))


def _hidden(layout: Layout) -> int:
    """n h w / u."""
    return layout.micro_tokens * layout.model.hidden_size * layout.width // layout.sequence_split


def _norm_kept(layout: Layout) -> int:
    """Input and statistics of a norm; torch's RMSNorm on a CPU also keeps what it normalised, both
    in fp32."""
    tokens = layout.micro_tokens // layout.sequence_split
    style, cuda = layout.model.style, layout.device == "cuda"
    statistics = style.norm_vectors * (4 if style.rms_norm or cuda else layout.width)
    if style.rms_norm and not cuda:
        return tokens * (2 * 4 * layout.model.hidden_size + statistics)
    return _hidden(layout) + tokens * statistics


def _norm_and_input(layout: Layout) -> int:
    """A norm, and its output, which the next linear layer keeps."""
    return _norm_kept(layout) + _hidden(layout)


def _dropout_mask(layout: Layout) -> int:
    """Mask of a dropout on the residual stream: one byte an element, on a CPU a whole element."""
    if layout.model.dropout == 0.0:
        return 0
    return _hidden(layout) if layout.device == "cpu" else _hidden(layout) // layout.width


def _mask(layout: Layout, width: int) -> int:
    return layout.micro_tokens * layout.model.sequence_length * width


def _widths(layout: Layout) -> tuple[int, int, int]:
    """Elements of queries, of keys, and of heads per token on this rank."""
    model, tensor = layout.model, layout.parallel.tensor
    keys = model.query_groups * (model.hidden_size // model.attention_heads)
    return model.hidden_size // tensor, keys // tensor, model.attention_heads // tensor


def _attention(layout: Layout) -> int:
    """Norm, QKV, attention, output projection, dropout.

    n w (q + 2 k) for QKV, n w q for the output, 4 bytes a head and token for log-sum-exp. Rotated
    queries and keys are kept beside QKV, with 4 tables of [s, head width]. A document mask is kept
    as [b, s, s] elements. Dropout on a CPU takes torch's plain attention: queries, keys, values and
    three s x s matrices a head in fp32, and where the values are a view of QKV, all of that.
    """
    model, w, n = layout.model, layout.width, layout.micro_tokens
    q, k, heads = _widths(layout)
    rotary = model.style.rotary
    kept = _norm_and_input(layout) + _dropout_mask(layout)
    if rotary:
        kept += 4 * model.sequence_length * (model.hidden_size // model.attention_heads) * w
    if model.dropout and layout.device == "cpu":
        values = 3 * q if w == 4 and k == q else q
        return kept + n * (4 * (2 * q + values + 3 * heads * model.sequence_length) + w * q)
    kept += n * (w * (q + 2 * k) + w * q + 4 * heads)
    if rotary:
        kept += n * w * (q + k)
    if layout.masked:
        kept += _mask(layout, w)
    return kept


def _mlp(layout: Layout) -> int:
    """Norm, MLP, dropout: n w 2 f for GELU (before and after it), n w 5 f for SwiGLU (both halves,
    the activated one, the other one as it is multiplied, the product)."""
    f = layout.model.ffn_width // layout.parallel.tensor
    kept = layout.micro_tokens * layout.width * f * (5 if layout.model.style.gated else 2)
    return kept + _norm_and_input(layout) + _dropout_mask(layout)


def _embedding(layout: Layout) -> int:
    """Token and position ids, and dropout."""
    return 16 * layout.micro_tokens + _dropout_mask(layout)


def _loss(layout: Layout) -> int:
    """Final norm, and what the objective keeps."""
    return _norm_kept(layout) + layout.objective.kept_bytes(_piece(layout))


def _loss_working(layout: Layout) -> int:
    """What the objective works with for a moment."""
    return layout.objective.working_bytes(_piece(layout))


def _piece(layout: Layout) -> Piece:
    rows = layout.vocabulary // layout.parallel.tensor
    hidden = layout.model.hidden_size
    return Piece(layout.micro_tokens, hidden, rows, layout.width, layout.device)


def _gradient_width(layout: Layout) -> int:
    """Elements per token of the gradients that live at once in the widest place, the MLP."""
    f = layout.model.ffn_width // layout.parallel.tensor
    return layout.model.hidden_size + f * layout.model.style.mlp_matrices
