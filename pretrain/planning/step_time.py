"""How long a step takes on a given machine: an estimate from a rate of computing and link speeds.

    step = compute x (1 + bubble) + what is sent and not hidden
    compute = model FLOPs x recompute / (gpus x peak x MFU)
    bubble = (p - 1) / (m v)      p stages, m micro-batches, v chunks per stage

Hidden behind computing: the two gathers of ten that sequence parallelism repeats backward (behind
weight gradients), pipeline sends under the interleaved schedule, ZeRO's reductions without a
pipeline (behind the backward pass, two thirds of a micro-batch), ZeRO-3's gathers (behind
everything). Nothing else is; the optimizer's own arithmetic is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from pretrain.model.flops import PEAKS, model_cost
from pretrain.planning.layout import Layout
from pretrain.planning.traffic import GATHERED_AGAIN, Traffic, reductions, tensor_passes

BACKWARD_SHARE = 2 / 3


@dataclass(frozen=True)
class Machine:
    """What is computed on.

    Attributes:
        device: its name.
        peak: FLOP/s of one device in the precision of the run.
        mfu: share of the peak that one device reaches by itself, without waiting for others.
        link: bytes/s that a device sends to others of its node.
        network: bytes/s that a device sends to other nodes.
        node: devices of a node.
    """

    device: str = "NVIDIA H100 80GB HBM3"
    peak: float = PEAKS["NVIDIA H100 80GB HBM3"]["bf16"]
    mfu: float = 0.45
    link: float = 450e9
    network: float = 50e9
    node: int = 8

    def speed(self, reach: int) -> float:
        """Bytes/s within a group whose ranks span `reach` consecutive devices."""
        return self.link if reach <= self.node else self.network


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step by what they go to.

    Attributes:
        compute: FLOPs that are counted as the model's, and those of recomputation.
        bubble: waiting for the pipeline to fill and to drain.
        tensor, pipeline, data: communication that is not hidden.
        mfu: model FLOPs of the whole step over the peak of all devices.
    """

    compute: float
    bubble: float
    tensor: float
    pipeline: float
    data: float
    mfu: float

    @property
    def total(self) -> float:
        """Seconds of the step."""
        return self.compute + self.bubble + self.tensor + self.pipeline + self.data


def bubble_fraction(layout: Layout) -> float:
    """Share of computing and waiting together that is waiting: (p - 1) / (m v + p - 1)."""
    waiting = layout.parallel.pipeline - 1
    return waiting / (layout.micro_batches * layout.parallel.virtual_pipeline + waiting)


def recompute_factor(layout: Layout) -> float:
    """FLOPs of a step with recomputation over those without."""
    model, recompute = layout.model, layout.config.training.recompute
    if recompute == "none":
        return 1.0
    cost = model_cost(model, layout.vocabulary).flops_per_token
    if recompute == "selective":
        again = 2 * model.style.mlp_matrices * model.hidden_size * model.ffn_width * model.layers
    else:
        again = cost // 3 - 2 * model.hidden_size * layout.vocabulary
    return 1.0 + again / cost


def step_time(layout: Layout, traffic: Traffic, machine: Machine) -> StepTime:
    """Estimate the step of `layout` on `machine`."""
    p = layout.parallel
    tokens = layout.config.training.global_batch * layout.model.sequence_length
    flops = tokens * model_cost(layout.model, layout.vocabulary).flops_per_token
    everything = layout.gpus * machine.peak
    compute = flops * recompute_factor(layout) / (everything * machine.mfu)
    chunks = layout.micro_batches * p.virtual_pipeline
    bubble = compute * (p.pipeline - 1) / chunks  # bubble_fraction() of both together
    # Ranks are laid out tensor fastest, then data, then pipeline.
    tensor = traffic.tensor.sent / machine.speed(p.tensor)
    if p.sequence_parallel:
        tensor *= 1 - GATHERED_AGAIN / tensor_passes(layout)
    between_stages = traffic.pipeline.sent / machine.speed(layout.gpus)
    if p.virtual_pipeline > 1:
        between_stages *= (p.pipeline - 1) / chunks
    among_copies = machine.speed(p.tensor * layout.data_parallel)
    reduce, gather = traffic.gradients.sent / among_copies, traffic.weights.sent / among_copies
    tied = traffic.tied.sent / machine.speed(layout.gpus)
    if layout.stage == 3:
        data = max(0.0, reduce + gather - compute)
    elif layout.stage and p.pipeline == 1:
        behind = reductions(layout) * BACKWARD_SHARE * compute / layout.micro_batches
        data = max(0.0, reduce - behind) + gather
    else:
        data = reduce + gather
    total = compute + bubble + tensor + between_stages + data + tied
    return StepTime(
        compute, bubble, tensor, between_stages, data + tied, flops / (everything * total)
    )
