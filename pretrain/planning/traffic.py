"""Bytes that one rank sends per step, for each process group.

Ring algorithms: an all-gather or a reduce-scatter of b bytes over r ranks sends (r - 1) / r b bytes
from each, an all-reduce twice that. What is small beside activations and weights (norm gradients,
statistics of the loss, the gradient norm) is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from pretrain.planning.layout import Layout


@dataclass(frozen=True)
class Flow:
    """Traffic of one group.

    Attributes:
        sent: bytes per step and rank.
        formula: how `sent` comes about, with the numbers that are not sizes of the model.
    """

    sent: int
    formula: str


@dataclass(frozen=True)
class Traffic:
    """Bytes sent per step by the rank of a middle stage (tensor, pipeline), and by one that holds
    the most parameters (data).

    Attributes:
        tensor: all-reduces, or all-gathers and reduce-scatters under sequence parallelism.
        pipeline: activations forward and their gradients back.
        gradients: reduction over data-parallel ranks.
        weights: all-gathers of weights over data-parallel ranks.
        tied: sum of the two copies of a tied embedding under a pipeline.
    """

    tensor: Flow
    pipeline: Flow
    gradients: Flow
    weights: Flow
    tied: Flow


def traffic_of(layout: Layout, parameters: int) -> Traffic:
    """What a rank with `parameters` sends."""
    return Traffic(
        _tensor(layout),
        _pipeline(layout),
        _gradients(layout, parameters),
        _weights(layout, parameters),
        _tied(layout),
    )


NONE = Flow(0, "one rank")
GATHERED_AGAIN = 2
"""All-gathers of a layer that sequence parallelism repeats backward, for weight gradients."""


def _hidden(layout: Layout) -> int:
    return layout.micro_tokens * layout.model.hidden_size * layout.width


def tensor_passes(layout: Layout) -> int:
    """All-gathers and reduce-scatters of a layer and micro-batch; an all-reduce counts as both.

    Two all-reduces forward and two backward; under sequence parallelism an all-gather and a
    reduce-scatter for each, and :data:`GATHERED_AGAIN`. Recomputation does the forward ones again:
    all of them, or the MLP's.
    """
    again = {"none": 0, "selective": 2, "full": 4}[layout.config.training.recompute]
    return 8 + again + (GATHERED_AGAIN if layout.parallel.sequence_parallel else 0)


def _tensor(layout: Layout) -> Flow:
    p = layout.parallel
    if p.tensor == 1:
        return NONE
    passes = tensor_passes(layout)
    layers = layout.model.layers // p.pipeline
    sent = layers * layout.micro_batches * passes * (p.tensor - 1) * _hidden(layout) // p.tensor
    return Flow(
        sent,
        f"{layers} layers x {layout.micro_batches} micro-batches x {passes} (t-1)/t n h w, "
        f"t = {p.tensor}",
    )


def _pipeline(layout: Layout) -> Flow:
    """Each chunk sends its output on, and the gradient of its input back."""
    p = layout.parallel
    if p.pipeline == 1:
        return NONE
    sends = 2 * layout.micro_batches * p.virtual_pipeline
    return Flow(
        sends * _hidden(layout) // layout.sequence_split,
        f"{sends} sends of n h w / u, u = {layout.sequence_split}",
    )


def reductions(layout: Layout) -> int:
    """Times that gradients are reduced in a step."""
    per_micro_batch = layout.stage == 3 or (layout.stage == 2 and layout.parallel.pipeline == 1)
    return layout.micro_batches if per_micro_batch else 1


def _gradients(layout: Layout, parameters: int) -> Flow:
    """In fp32. ZeRO 1 and 2 all-reduce each bucket unless `use_multi_rank_bucket_allreduce` is off;
    ZeRO-3 reduce-scatters."""
    ranks, times = layout.data_parallel, reductions(layout)
    if ranks == 1:
        return NONE
    settings = layout.zero_settings(parameters)
    scatters = layout.stage == 3 or (
        layout.stage > 0 and not settings.get("use_multi_rank_bucket_allreduce", True)
    )
    passes = 1 if scatters else 2
    return Flow(
        times * passes * 4 * parameters * (ranks - 1) // ranks,
        f"{times} {'reduce-scatter' if scatters else 'all-reduce'}: {times} x {passes} (d-1)/d 4 P,"
        f" d = {ranks}",
    )


def _weights(layout: Layout, parameters: int) -> Flow:
    """ZeRO 1 and 2 gather what was stepped; ZeRO-3 gathers for each forward and backward pass."""
    ranks = layout.data_parallel
    if ranks == 1 or layout.stage == 0:
        return NONE if ranks == 1 else Flow(0, "every rank steps all of them")
    times = 2 * layout.micro_batches if layout.stage == 3 else 1
    return Flow(
        times * layout.width * parameters * (ranks - 1) // ranks,
        f"{times} all-gather: {times} x (d-1)/d w P, d = {ranks}",
    )


def _tied(layout: Layout) -> Flow:
    p, model = layout.parallel, layout.model
    if p.pipeline == 1 or not model.tied:
        return NONE
    rows = layout.vocabulary // p.tensor
    return Flow(rows * model.hidden_size * layout.width, "all-reduce of 2: h v w / t")
