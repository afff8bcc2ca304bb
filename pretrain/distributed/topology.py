"""Process groups: Megatron's parallel state, what DeepSpeed asks for, and who reads data.

Ranks are laid out as Megatron does: tensor fastest, then data, then pipeline.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from pretrain.config import Config
from pretrain.distributed import backends, cpu
from pretrain.distributed.meeting import bound, fair_share, here, meet, placed
from pretrain.distributed.ranks import Ranks, discover, rendezvous_address
from pretrain.errors import ConfigError


@dataclass(frozen=True)
class Axis:
    """One dimension of the layout: this process' coordinate, the size, and the group."""

    rank: int
    size: int
    group: dist.ProcessGroup


class Mpu:
    """The model-parallel unit that DeepSpeed asks for group, rank and size of each axis."""

    def __init__(self, tensor: Axis, pipeline: Axis, data: Axis, model: Axis) -> None:
        for names, axis in (
            (("tensor_model_parallel",), tensor),
            (("pipeline_model_parallel", "pipe_parallel"), pipeline),
            (("data_parallel",), data),
            (("model_parallel",), model),
        ):
            for name in names:
                setattr(self, f"get_{name}_rank", lambda axis=axis: axis.rank)
                setattr(self, f"get_{name}_world_size", lambda axis=axis: axis.size)
                setattr(self, f"get_{name}_group", lambda axis=axis: axis.group)


@dataclass(frozen=True)
class Topology:
    """Where this process stands.

    Attributes:
        tensor, pipeline, data: the three axes.
        model: the processes that hold one copy of the model (tensor x pipeline).
        readers: data-parallel axis of the processes that read data, with a gloo group of its own;
            None elsewhere. These are the processes with tensor and pipeline rank 0.
        feed: `model`'s processes again, with a gloo group of its own, over which a reader hands
            finished batches to its copy of the model; its rank 0 is the reader.
        device: where tensors live.
        leaving: what is to be done before this process leaves the others; whoever holds process
            groups lets go of them there.
    """

    ranks: Ranks
    tensor: Axis
    pipeline: Axis
    data: Axis
    model: Axis
    readers: Axis | None
    feed: Axis
    device: torch.device
    virtual_pipeline: int
    leaving: ExitStack = field(default_factory=ExitStack, repr=False, compare=False)

    @property
    def everyone(self) -> dist.ProcessGroup:
        """All processes of the job."""
        world = dist.group.WORLD
        assert world is not None
        return world

    @property
    def is_first_rank(self) -> bool:
        """Whether this process speaks for the job."""
        return self.ranks.rank == 0

    @property
    def is_first_stage(self) -> bool:
        """Whether this process holds the embedding."""
        return self.pipeline.rank == 0

    @property
    def is_last_stage(self) -> bool:
        """Whether this process computes the loss."""
        return self.pipeline.rank == self.pipeline.size - 1

    @property
    def reader_rank(self) -> int:
        """This process among the readers; 0 where it reads no data."""
        return 0 if self.readers is None else self.readers.rank

    def from_last_stage(self, values: torch.Tensor) -> torch.Tensor:
        """What the last pipeline stage has in `values`, in place on every stage."""
        pipeline = self.pipeline
        if pipeline.size > 1:
            last = dist.get_global_rank(pipeline.group, pipeline.size - 1)
            dist.broadcast(values, last, group=pipeline.group)
        return values

    def sum_of_last_stages(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over the data-parallel ranks of what last pipeline stages have in `values`, in place
        on every rank."""
        if self.is_last_stage and self.data.size > 1:
            dist.all_reduce(values, group=self.data.group)
        return self.from_last_stage(values)

    @property
    def mpu(self) -> Mpu:
        """The view of this topology that DeepSpeed takes."""
        return Mpu(self.tensor, self.pipeline, self.data, self.model)

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{self.ranks.world_size} process{'es' * (self.ranks.world_size > 1)}: "
            f"tensor {self.tensor.size} x data {self.data.size} x pipeline {self.pipeline.size}, "
            f"on {device_name(self.device)}"
        )


def device_name(device: torch.device) -> str:
    """The device's name as its vendor writes it; `CPU` for a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def pick_device(kind: str, ranks: Ranks) -> torch.device:
    """The device of this process for `run.device`.

    Raises:
        ConfigError: CUDA is asked for and missing, or there are more processes than devices.
    """
    available = cpu.has_cuda()
    if kind == "cuda" and not available:
        raise ConfigError("run.device cuda: no CUDA device is visible; use auto or cpu")
    if kind == "cpu" or not available:
        return torch.device("cpu")
    devices = torch.cuda.device_count()
    if devices == 1:  # srun --gpus-per-task=1: each process sees its own; `start` looks
        return torch.device("cuda", 0)
    if ranks.local_rank >= devices:
        raise ConfigError(
            f"{ranks.local_world_size} processes on this host but {devices} CUDA devices; start "
            "one process per device, or set run.device to cpu"
        )
    return torch.device("cuda", ranks.local_rank)


def claim(device: torch.device, ranks: Ranks, store: dist.Store) -> None:
    """Take a CUDA device for this process, in the store that the processes have met at.

    Raises:
        ConfigError: another process of the job has taken it.
    """
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    # Parts of one GPU (MIG) may go by its number.
    if uuid is None or "MIG" in os.environ.get("CUDA_VISIBLE_DEVICES", ""):
        return
    if store.add(f"device/{uuid}", 1) > 1:
        raise ConfigError(
            f"rank {ranks.rank} on {socket.gethostname()} sees the GPU {uuid} that another process "
            "of this job uses; start one process per GPU (srun: --gpus-per-task=1, or "
            "--gpus-per-node for all), or set run.device to cpu"
        )


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a number format that the device does not compute in.

    Raises:
        ConfigError: fp16 on a CPU.
    """
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError(
            "training.precision fp16 needs a GPU, this run is on the CPU; use bf16 or fp32"
        )


def share_threads(threads: int, cores: int | None = None) -> None:
    """Give this process its CPU threads: `threads`; where that is 0, its share of the cores, unless
    OMP_NUM_THREADS says otherwise.

    Args:
        cores: its share of the cores that it may use; None for all of them.
    """
    if threads == 0 and "OMP_NUM_THREADS" in os.environ:
        return
    torch.set_num_threads(threads or cores or len(os.sched_getaffinity(0)))


def _axis(group: dist.ProcessGroup) -> Axis:
    return Axis(dist.get_rank(group), dist.get_world_size(group), group)


@contextmanager
def start(config: Config, ranks: Ranks | None = None) -> Iterator[Topology]:
    """Join the other processes, build every group, and leave again at the end.

    Raises:
        ConfigError: the layout does not fit the number of processes or devices.
    """
    ranks = ranks or discover()
    config.check_layout(ranks.world_size)
    if ranks.placed:  # refused before anybody waits for others
        check_precision(config.training.precision, pick_device(config.run.device, ranks))
    store, places = meet(ranks, rendezvous_address(ranks), config.run.start_timeout_seconds)
    ranks = placed(ranks, places)
    device = pick_device(config.run.device, ranks)
    check_precision(config.training.precision, device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        claim(device, ranks, store)
    cores = fair_share(here(ranks.rank), places)
    share_threads(config.run.threads, cores)
    if ranks.rank == 0 and (warning := bound(ranks, places)):
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    backends.load(device)
    _join(ranks, device, longest_wait(config), store)
    try:
        topology = _build(config, ranks, device)
        with topology.leaving:
            yield topology
    finally:
        from megatron.core import parallel_state

        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()


def longest_wait(config: Config) -> timedelta:
    """After which a call of another process fails by itself; heartbeats end the job before."""
    return timedelta(seconds=max(config.run.timeout_seconds, config.run.start_timeout_seconds) + 60)


def _join(ranks: Ranks, device: torch.device, timeout: timedelta, store: dist.Store) -> None:
    import deepspeed

    backend = "nccl" if device.type == "cuda" else "gloo"
    os.environ.setdefault("LOCAL_RANK", str(ranks.local_rank))  # DeepSpeed insists on it
    store.set_timeout(timeout)
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("default_pg", store),
        rank=ranks.rank,
        world_size=ranks.world_size,
        timeout=timeout,
    )
    deepspeed.init_distributed(
        dist_backend=backend, auto_mpi_discovery=False, verbose=False, dist_init_required=False
    )


def own_store(name: str) -> Any:
    """A connection of one thread's own to the store that the processes have met at; its keys are
    apart from those of other names."""
    from torch.distributed.distributed_c10d import _get_default_store

    store: Any = _get_default_store()
    return dist.PrefixStore(name, store.clone())


def _build(config: Config, ranks: Ranks, device: torch.device) -> Topology:
    from megatron.core import parallel_state

    parallel = config.parallel
    virtual = parallel.virtual_pipeline
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=parallel.tensor,
        pipeline_model_parallel_size=parallel.pipeline,
        virtual_pipeline_model_parallel_size=virtual if virtual > 1 else None,
        create_gloo_process_groups=False,
        distributed_timeout_minutes=-(-int(longest_wait(config).total_seconds()) // 60),
    )
    model = _axis(parallel_state.get_model_parallel_group())
    # Selection and hand-over of batches run in a thread beside the step: groups of their own.
    feed_ranks = dist.get_process_group_ranks(model.group)
    everyone: list[list[int]] = [[] for _ in range(ranks.world_size)]
    dist.all_gather_object(everyone, feed_ranks)
    timeout = longest_wait(config)
    copies = sorted({tuple(members) for members in everyone})
    feeds = {members: dist.new_group(list(members), timeout, "gloo") for members in copies}
    readers = dist.new_group([members[0] for members in copies], timeout, "gloo")
    return Topology(
        ranks=ranks,
        tensor=_axis(parallel_state.get_tensor_model_parallel_group()),
        pipeline=_axis(parallel_state.get_pipeline_model_parallel_group()),
        data=_axis(parallel_state.get_data_parallel_group()),
        model=model,
        readers=_axis(readers) if feed_ranks[0] == ranks.rank else None,
        feed=_axis(feeds[tuple(feed_ranks)]),
        device=device,
        virtual_pipeline=virtual,
    )
