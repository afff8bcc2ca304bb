"""What tensor and pipeline ranks do to gradients that DeepSpeed does not: sums, norm, clipping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from torch import Tensor
from torch.nn import Parameter

from pretrain.distributed.topology import Topology


def sum_as_computed(parameters: Iterable[Parameter], topology: Topology) -> None:
    """Have each gradient that tensor ranks compute on a part of the sequence (norms, biases after
    row-parallel layers) summed over them in the backward pass, before anything else reads it."""

    def summed(gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient, group=topology.tensor.group)
        return gradient

    for parameter in parameters:
        if getattr(parameter, "sequence_parallel", False):
            parameter.register_hook(summed)


def sum_sequence_parallel(
    parameters: Iterable[Parameter], topology: Topology, name: str = "grad"
) -> None:
    """The same once, after the last backward pass, in place.

    Args:
        name: attribute of a parameter that holds its gradient.
    """
    for parameter in parameters:
        gradient = getattr(parameter, name)
        if getattr(parameter, "sequence_parallel", False) and gradient is not None:
            dist.all_reduce(gradient, group=topology.tensor.group)


def sum_tied(weight: Parameter, name: str = "grad") -> None:
    """Sum the gradient of a tied weight over the first and the last pipeline stage, in place."""
    dist.all_reduce(getattr(weight, name), group=parallel_state.get_embedding_group())


def is_counted(parameter: Parameter, topology: Topology) -> bool:
    """Whether this rank counts a weight in the norm: where it is split, or on tensor rank 0;
    a copy of a tied weight not at all."""
    split = getattr(parameter, "tensor_model_parallel", False)
    copy = getattr(parameter, "ds_pipe_replicated", False)
    return (split or topology.tensor.rank == 0) and not copy


def global_norm(counted: Sequence[Tensor], topology: Topology, group: dist.ProcessGroup) -> Tensor:
    """Euclidean norm in fp32 over what all ranks of `group` count, without waiting for the device.

    Args:
        counted: gradients or parts of them that this rank counts.
    """
    if counted:
        norms = torch._foreach_norm(list(counted), 2.0, dtype=torch.float32)
        square = torch.stack(norms).square().sum()
    else:
        square = torch.zeros((), device=topology.device)
    if dist.get_world_size(group) > 1:
        dist.all_reduce(square, group=group)
    return square.sqrt()


def clip(gradients: Sequence[Tensor], norm: Tensor, largest: float) -> None:
    """Scale gradients in place so that `norm`, theirs over all ranks, is `largest` at the most;
    0 for no limit."""
    if largest > 0.0 and gradients:
        factor = (largest / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(list(gradients), factor)
