"""What a rank holds of the training state, as views of the live tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor
from torch.nn import Parameter

from pretrain.model.initialise import global_name, split_dimension
from pretrain.optimizers.base import set_updates
from pretrain.training.checkpoint.tensor_index import WEIGHT, Shard, Whole
from pretrain.training.engine import Engine


def named_parameters(engine: Engine) -> Iterator[tuple[str, Parameter]]:
    """Parameters by global name."""
    for chunk in engine.chunks:
        for name, parameter in chunk.named_parameters():
            yield global_name(chunk, name), parameter


def whole_of(name: str, parameter: Parameter, slice_shape: Iterable[int], size: int) -> Whole:
    """The undivided parameter of which a rank's has `slice_shape`."""
    dimension = split_dimension(parameter)
    shape = list(slice_shape)
    if dimension is not None:
        shape[dimension] *= size
    stride = getattr(parameter, "partition_stride", 1) if dimension is not None else 1
    return Whole(name, tuple(shape), dimension, stride)


def shards_of(engine: Engine) -> list[Shard]:
    """Everything that this rank holds of the state. Moments that no step has made yet are made."""
    topology = engine.topology
    found = []
    for number, (name, parameter) in enumerate(named_parameters(engine)):
        shape = tuple(getattr(parameter, "ds_shape", parameter.shape))
        whole = whole_of(name, parameter, shape, topology.tensor.size)
        split = whole.dimension is not None
        place = (topology.tensor.rank, topology.tensor.size) if split else (0, 1)
        located = _locate(engine, parameter)
        if located is None:
            continue
        start, parts = located
        keeper = number % topology.data.size if engine.stage == 0 else None
        copy = getattr(parameter, "ds_pipe_replicated", False)
        found.append(Shard(whole, *place, start, parts, keeper, copy))
    return found


def writes(shard: Shard, engine: Engine) -> bool:
    """Whether this rank is the one that writes the shard."""
    topology = engine.topology
    if shard.copy or (shard.size == 1 and topology.tensor.rank != 0):
        return False
    return shard.keeper is None or shard.keeper == topology.data.rank


def _locate(engine: Engine, parameter: Parameter) -> tuple[int, dict[str, Tensor]] | None:
    """Start and views of this rank's range of a parameter; None where it holds none of it."""
    if engine.stage == 0:
        state = engine.method.state_of(engine.built, parameter)
        return 0, {WEIGHT: parameter.data.view(-1), **{k: v.view(-1) for k, v in state.items()}}
    if engine.stage == 3:
        return _locate_stage3(engine, parameter)
    mapping: Any = parameter._hp_mapping  # type: ignore[attr-defined]
    if mapping is None:
        return None
    zero = engine.optimizer
    flat = zero.single_partition_of_fp32_groups[mapping.param_group_index]
    place = mapping.hp_fragment_address
    return mapping.lp_fragment_address.start, _views(engine, flat, place.start, place.numel)


def _locate_stage3(engine: Engine, parameter: Any) -> tuple[int, dict[str, Tensor]] | None:
    zero = engine.optimizer
    group, offset, per_rank = zero.grad_position[zero.get_param_id(parameter)]
    start = engine.topology.data.rank * per_rank
    count = min(per_rank, parameter.ds_numel - start)
    if count <= 0:
        return None
    return start, _views(engine, zero.fp32_partitioned_groups_flat[group], offset, count)


def _views(engine: Engine, flat: Tensor, start: int, count: int) -> dict[str, Tensor]:
    state = engine.method.state_of(engine.built, flat)
    return {
        WEIGHT: flat.data.narrow(0, start, count),
        **{kind: moment.narrow(0, start, count) for kind, moment in state.items()},
    }


def take_in(engine: Engine, updates: int) -> None:
    """Have the model compute with weights that were put into the shards' views."""
    set_updates(engine.built, updates)
    zero = engine.optimizer
    if engine.stage in (1, 2):
        zero.update_lp_params()
    elif engine.stage == 3:
        for group in range(len(zero.fp16_groups)):
            zero._reassign_or_swap_out_partitioned_parameters(group)
        if zero.persistent_parameters:
            zero.persistent_parameters[0].all_gather(zero.persistent_parameters)
