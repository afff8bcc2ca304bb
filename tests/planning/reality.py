"""What is really allocated, beside what is planned. Runs inside the processes of a gang."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from pretrain.config import load_config
from pretrain.distributed import topology
from pretrain.planning import Layout
from pretrain.planning.activations import activations
from pretrain.planning.memory import memory_of
from pretrain.planning.parameters import held_by

VOCABULARY = 160
SHAPE = {"layers": 4, "hidden_size": 64, "attention_heads": 4, "sequence_length": 48}


def make_config(**sections: dict[str, Any]) -> Any:
    training = {"global_batch": 8, "micro_batch": 2, **sections.pop("training", {})}
    model = {**SHAPE, **sections.pop("model", {})}
    return load_config(None, {"model": model, "training": training, **sections})


def storages(tensors: Iterable[Tensor | None]) -> dict[int, int]:
    """Address and bytes of each storage that is not empty."""
    found = (tensor.untyped_storage() for tensor in tensors if tensor is not None)
    return {storage.data_ptr(): storage.nbytes() for storage in found if storage.nbytes()}


def tensors_in(value: Any) -> Iterator[Tensor]:
    if torch.is_tensor(value):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


def saved_and_planned(config: Any) -> tuple[int, int]:
    """Bytes that a forward pass of this rank keeps for its backward pass, and the plan's."""
    with topology.start(config) as here:
        from pretrain.model.gpt import DTYPES, build, document_inputs
        from pretrain.objectives.head import Targets

        dtype = DTYPES[config.training.precision]
        (chunk,) = build(config, here, VOCABULARY).to(dtype)
        length, batch = config.model.sequence_length, config.training.micro_batch
        stage = here.pipeline.rank
        if stage:
            split = here.tensor.size if config.parallel.sequence_parallel else 1
            shape = (length // split, batch, config.model.hidden_size)
            chunk.set_input_tensor(torch.randn(shape, dtype=dtype, requires_grad=True))
        tokens = torch.randint(0, VOCABULARY, (batch, length))
        places = torch.arange(length).expand(batch, length).contiguous()
        kept: list[Tensor] = []

        def keep(tensor: Tensor) -> Tensor:
            kept.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = chunk(
                input_ids=tokens,
                **document_inputs(tokens, places if config.data.task == "text" else None),
                labels=Targets(tokens, torch.ones(batch, length), {}, places),
            )
        if not here.is_last_stage:
            kept.append(output)
        parameters = storages(chunk.parameters())
        measured = sum(n for place, n in storages(kept).items() if place not in parameters)
        layout = Layout(config, here.ranks.world_size, VOCABULARY, "cpu")
        return measured, activations(layout, stage).kept


def gradients_of(engine: Any) -> tuple[int, int]:
    """Bytes of gradients outside DeepSpeed's buckets, and of the buckets."""
    optimizer = engine.optimizer
    buckets = storages(
        tensor
        for bucket in getattr(optimizer, "ipg_buckets", {}).values()
        for tensor in tensors_in(bucket.buffer)
    )
    held = [
        getattr(parameter, name, None)
        for parameter in engine.parameters
        for name in ("grad", "grad_accum")
    ]
    for name in ("averaged_gradients", "all_grad_tensors"):
        held += tensors_in(getattr(optimizer, name, {}))
    held += tensors_in(getattr(optimizer, "grad_partitions_flat_buffer", None))
    outside = sum(n for place, n in storages(held).items() if place not in buckets)
    return outside, sum(buckets.values())


def state_and_plan(
    config: Any, bucket: int
) -> tuple[dict[str, int], dict[str, int], int, int, int]:
    """Bytes of each category after a second step, largest where they change in a step; the plan's;
    parameters that this rank holds, and the plan's; its pipeline stage.

    Args:
        bucket: elements of DeepSpeed's buckets, so that the model has several as real ones do.
    """
    from pretrain.distributed import zero

    zero.LARGEST_BUCKET = bucket
    with topology.start(config) as here:
        from pretrain.data.batch import made_up_batch
        from pretrain.model.gpt import build
        from pretrain.training.engine import Engine

        chunks = build(config, here, VOCABULARY)
        built = sum(parameter.numel() for parameter in chunks.parameters())
        engine = Engine(config, here, chunks)
        most = {"gradients": 0, "buckets": 0}

        def watched(function: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                for name, size in zip(most, gradients_of(engine), strict=True):
                    most[name] = max(most[name], size)
                return function(*args, **kwargs)

            return call

        for owner, name in (
            (engine.deepspeed, "set_gradient_accumulation_boundary"),
            (engine.deepspeed, "step"),
            (engine.optimizer, "setup_buckets"),
            (engine.optimizer, "copy_grads_in_partition"),
            (engine.optimizer, "_release_ipg_buffers"),
        ):
            if hasattr(owner, name):
                setattr(owner, name, watched(getattr(owner, name)))
        training = config.training
        batch = made_up_batch(
            training.global_batch // here.data.size,
            config.model.sequence_length,
            VOCABULARY,
            here.data.size,
        )
        for _ in range(2):
            engine.train_step(batch, 0.0)
        optimizer = engine.optimizer
        weights = storages(
            [*engine.parameters, *(getattr(p, "ds_tensor", None) for p in engine.parameters)]
        )
        master = [
            *getattr(optimizer, "single_partition_of_fp32_groups", []),
            *getattr(optimizer, "fp32_partitioned_groups_flat", []),
        ]
        inner = getattr(optimizer, "optimizer", optimizer)
        state = storages([*master, *tensors_in([dict(s) for s in inner.state.values()])])
        measured = {
            "weights": sum(weights.values()),
            "optimizer": sum(n for place, n in state.items() if place not in weights),
            **most,
        }
        layout = Layout(config, here.ranks.world_size, VOCABULARY, "cpu")
        stage = here.pipeline.rank
        plan = memory_of(layout, stage).state
        planned = {name: getattr(plan, name) for name in measured}
        return measured, planned, built, held_by(layout, stage).count, stage
