"""Bytes of weights, gradients and optimizer state on one rank, as DeepSpeed holds them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any

from pretrain.planning.activations import activations
from pretrain.planning.layout import Layout
from pretrain.planning.parameters import Held, held_by

ALIGNMENT = 2
"""Elements per rank that ZeRO 1 and 2 pad a flat group to (`nccl_start_alignment_factor`)."""
PERSISTENT = 100_000
"""Elements up to which ZeRO-3 keeps a parameter whole (`stage3_param_persistence_threshold`)."""
LIVE = 1_000_000_000
"""Gathered elements that ZeRO-3 keeps at most (`stage3_max_live_parameters`)."""
UNSHARDED_BUCKET = 500_000_000
"""Elements that are reduced at a time without ZeRO (`MEMORY_OPT_ALLREDUCE_SIZE`)."""


@dataclass(frozen=True)
class State:
    """Training state of a rank, in bytes.

    Attributes:
        weights: as the forward pass uses them, ZeRO-3's shards and what it always keeps whole.
        gathered: weights that ZeRO-3 gathers, at most.
        gradients: at their largest.
        accumulated: the part of `gradients` that earlier micro-batches have left behind.
        reduced: gradients once they are reduced, which the step begins with.
        buckets: DeepSpeed's reduction buffers.
        optimizer: moments and master weights.
        reducing: copies of a bucket while it is reduced.
        stepping: fp32 gradients of the shard that is stepped, and the flat copy before them.
        host: bytes in the host's memory (offload).
    """

    weights: int
    gathered: int
    gradients: int
    accumulated: int
    reduced: int
    buckets: int
    optimizer: int
    reducing: int
    stepping: int
    host: int


@dataclass(frozen=True)
class Memory:
    """One rank's memory in bytes: what it holds, and the largest sum at any time.

    Attributes:
        stage: its pipeline stage.
        parameters: that it holds before ZeRO shards them.
        state: see :class:`State`.
        activations, working: see :class:`pretrain.planning.activations.Activations`.
        backward: sum while the last micro-batch is run backward.
        step: sum while weights are stepped.
    """

    stage: int
    parameters: int
    state: State
    activations: int
    working: int
    backward: int
    step: int

    @property
    def peak(self) -> int:
        """The larger of both sums."""
        return max(self.backward, self.step)

    @property
    def parts(self) -> dict[str, int]:
        """What the larger sum is made of, by name; the parts need not be at their largest at
        once."""
        state = self.state
        temporary = max(self.working + state.reducing, state.stepping)
        return {
            "weights": state.weights + state.gathered,
            "gradients": state.gradients,
            "optimizer": state.optimizer,
            "activations": self.activations,
            "buckets": state.buckets,
            "temporary": temporary,
        }


def state_of(layout: Layout, held: Held) -> State:
    """What a rank that holds `held` keeps between and during steps."""
    if layout.stage == 0:
        return _without_zero(layout, held)
    if layout.stage == 3:
        return _zero_3(layout, held)
    return _zero_1_or_2(layout, held)


def _without_zero(layout: Layout, held: Held) -> State:
    """Only in fp32. Gradients are reduced after the last backward pass, through a flat copy."""
    size = 4 * held.count
    copy = 4 * min(held.count, UNSHARDED_BUCKET) if layout.data_parallel > 1 else 0
    return State(
        weights=size,
        gathered=0,
        gradients=size,
        accumulated=size if layout.micro_batches > 1 else 0,
        reduced=size,
        buckets=0,
        optimizer=layout.optimizer.state_bytes * held.count,
        reducing=0,
        stepping=copy + layout.optimizer.working * held.count,
        host=0,
    )


def _zero_1_or_2(layout: Layout, held: Held) -> State:
    """Weights are views of flat padded groups; a rank steps an equal part of each group.

    Without a pipeline ZeRO-2 reduces every micro-batch, and ZeRO-1 the last one. Under a pipeline
    both reduce once, after it, so that all gradients are there in full, and those of the first
    bucket move to a copy with room for all of this rank's part. Reduced gradients are kept tensor
    by tensor: one that reaches into the part is there whole. The newest gradient stands beside
    them until it is in a bucket.

    bf16 gradients of several micro-batches are added up in fp32: at stage 1 whole, at stage 2 in
    this rank's part, which is one flat buffer in both cases once they are reduced.
    """
    ranks, width, wide = layout.data_parallel, layout.width, layout.gradient_width
    parts = [-(-sum(group) // (ALIGNMENT * ranks)) * ALIGNMENT for group in _groups(held)]
    padded, part = sum(parts) * ranks, sum(parts)
    settings = layout.zero_settings(held.count)
    bucket, buckets = _buckets(layout, settings)
    whole = width * held.count
    reduced = whole
    if ranks > 1:
        reduced = width * sum(map(_touched, _groups(held), parts))
    newest = width * max(held.matrices)
    copied = reduced - min(reduced, width * bucket)
    in_buckets = width
    if wide > width:
        reduced = wide * part
        if layout.stage == 1:
            in_buckets, accumulated = wide, wide * held.count
            gradients = accumulated + max(reduced - wide * _first_bucket(held, bucket), newest)
        else:
            gradients, accumulated = reduced + newest, reduced
    elif layout.parallel.pipeline > 1:
        gradients, accumulated = whole + copied, whole
    elif layout.micro_batches == 1:
        gradients, accumulated = reduced + newest, 0
    elif layout.stage == 1:
        gradients = accumulated = whole + copied
    else:
        gradients, accumulated = 2 * reduced + newest, reduced
    kept, working = 4 + layout.optimizer.state_bytes, layout.optimizer.working
    optimizer, host = kept * part, 0
    stepping = max(parts) * (4 + (wide if wide < 4 else 0)) + working * part
    if layout.parallel.offload != "none":
        # Master weights and moments, fp32 gradients, and the weights on their way back.
        optimizer, stepping, host = 0, 0, (kept + 4 + width + working) * part
        gradients = accumulated = reduced = 0
    return State(
        weights=width * padded,
        gathered=0,
        gradients=gradients,
        accumulated=accumulated,
        reduced=reduced,
        buckets=buckets * bucket * in_buckets,
        optimizer=optimizer,
        reducing=_in_transit(bucket, in_buckets),
        stepping=stepping,
        host=host,
    )


def _zero_3(layout: Layout, held: Held) -> State:
    """Each parameter is cut into equal parts; small ones are kept whole as well. Gradients live in
    one flat buffer of this rank's parts, which is never freed; nor is the bucket, which is fp32 as
    what is sent."""
    ranks, width, wide = layout.data_parallel, layout.width, layout.gradient_width
    sizes = (*held.matrices, *held.vectors)
    part = sum(-(-size // ranks) for size in sizes)
    small = sum(size for size in sizes if size <= PERSISTENT)
    bucket, _ = _buckets(layout, layout.zero_settings(held.count))
    offload = layout.parallel.offload
    host = 0
    kept, working = 4 + layout.optimizer.state_bytes, layout.optimizer.working
    optimizer, stepping = kept * part, part * (4 + (wide if wide < 4 else 0) + working)
    gradients = wide * part
    weights = width * part
    if offload != "none":
        host = (kept + 4 + working) * part + gradients
        optimizer = stepping = gradients = 0
    if offload == "parameters":
        host += weights
        weights = 0
    return State(
        weights=weights + width * small,
        gathered=width * min(held.count - small, LIVE),
        gradients=gradients,
        accumulated=gradients,
        reduced=gradients,
        buckets=4 * bucket,
        optimizer=optimizer,
        reducing=4 * bucket,
        stepping=stepping,
        host=host,
    )


def _groups(held: Held) -> list[tuple[int, ...]]:
    return [group for group in (held.matrices, held.vectors) if group]


def _buckets(layout: Layout, settings: dict[str, Any]) -> tuple[int, int]:
    """Elements of a bucket, and how many there are: two where reduction overlaps."""
    return int(settings["reduce_bucket_size"]), 2 if settings["overlap_comm"] else 1


def _first_bucket(held: Held, bucket: int) -> int:
    """Elements of the gradients that are the first to be reduced together."""
    return max(takewhile(lambda end: end <= bucket, accumulate(held.matrices)), default=bucket)


def _in_transit(bucket: int, width: int) -> int:
    """A bucket is flattened, and reduced in fp32."""
    return bucket * (width + (4 if width < 4 else 0))


def _touched(sizes: tuple[int, ...], part: int) -> int:
    """Elements of the tensors that reach into a part, for the rank where they are most."""
    ends = list(accumulate(sizes))
    starts = [0, *ends[:-1]]
    most = 0
    for begin in range(0, ends[-1], part):
        first = bisect_right(ends, begin)
        last = bisect_left(starts, begin + part)
        most = max(most, ends[last - 1] - starts[first])
    return most


States = dict[tuple[int, bool], tuple[Held, State]]
"""What layouts that differ only in micro-batch and recomputation have in common, by stage and by
whether there are several micro-batches."""


def memory_of(layout: Layout, stage: int, known: States | None = None) -> Memory:
    """Memory of a rank of pipeline stage `stage`.

    With one micro-batch gradients grow while activations are given back, so that only the larger
    of both counts; with several, all gradients but the last ones are there from the start.

    Args:
        known: filled, and used where it is there already.
    """
    known = {} if known is None else known
    key = (stage, layout.micro_batches > 1)
    if key not in known:
        held = held_by(layout, stage)
        known[key] = held, state_of(layout, held)
    held, state = known[key]
    acts = activations(layout, stage)
    base = state.weights + state.optimizer
    fresh = state.gradients - state.accumulated
    return Memory(
        stage=stage,
        parameters=held.count,
        state=state,
        activations=acts.kept,
        working=acts.working,
        backward=base
        + state.gathered
        + state.accumulated
        + state.buckets
        + max(acts.kept, fresh)
        + max(acts.working, state.reducing),
        step=base + state.reduced + state.stepping + (state.buckets if layout.stage == 3 else 0),
    )


def largest(layout: Layout, known: States | None = None) -> Memory:
    """The stage with the largest peak: the first, the one behind it, or the last."""
    last = layout.parallel.pipeline - 1
    return max(
        (memory_of(layout, stage, known) for stage in sorted({0, min(1, last), last})),
        key=lambda memory: memory.peak,
    )
