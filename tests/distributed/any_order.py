"""Trainings of strategy any_order on real batches, in stretches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pretrain.config import Config, load_config
from pretrain.distributed import topology
from tests.distributed.layouts import STEPS, Layout, make_config
from tests.training.checkpoint.stretches import Trace, manifest_of

VOCABULARY = 16
LINEAR: dict[str, Any] = {"strategy": "any_order", "draw": "criterion", "anneal_to": "natural"}
"""Orders near that of joint information, annealed to natural order from step 4 to 12."""


def any_order_config(layout: Layout, selection: dict[str, Any], **model: Any) -> Config:
    """Two-digit multiplication with the small model of other layout tests."""
    values = make_config(layout, **{"sequence_length": 10, **model}).model_dump(mode="json")
    values["selection"] = selection
    values["data"] = {"task": "arithmetic"}
    return load_config(None, values)


def feed_of(config: Config, here: topology.Topology, steps: range) -> Any:
    """Batches of the steps, made as a run makes them."""
    from pretrain.data.batch import ASKED
    from pretrain.data.loader import BatchFeed
    from pretrain.selection.schedule import SelectionSchedule

    task = config.data.build(config)
    sampler = task.sampler({}, 0)
    schedule = SelectionSchedule(config, here, task.fitter, sampler)
    fields = {ASKED: torch.int64} if config.asks_units else {}
    share = config.training.global_batch // here.data.size
    source = task.batches(schedule, sampler, here)
    length = config.model.sequence_length
    return BatchFeed(source, here, share, length, steps, ahead=0, fields=fields)


def train(
    config: Config, folder: Path | None = None, until: int = STEPS, silent: bool = False
) -> Trace:
    """Loss and gradient norm of each step.

    Args:
        folder: of checkpoints, where there are some to go on from, and one is left.
        until: last step.
        silent: whether the model is told nothing of orders: those embeddings are 0 and stay so.
    """
    with topology.start(config) as here:
        from pretrain.model.gpt import build
        from pretrain.training.checkpoint.resume import find
        from pretrain.training.checkpoint.store import CheckpointStore
        from pretrain.training.engine import Engine

        chunks = build(config, here, VOCABULARY)
        for name, parameter in chunks.named_parameters():
            if silent and "tokentype_embeddings" in name:
                parameter.data.zero_()
                parameter.requires_grad_(False)
        engine = Engine(config, here, chunks)
        store = found = None
        if folder is not None:
            store = CheckpointStore(folder, config.checkpoint, here, 60.0)
            found, _ = find(store, config)
            if found:
                store.load(found.folder, found.manifest, engine)
        trace = []
        for _, batch in feed_of(config, here, range(engine.steps, until)):
            result = engine.train_step(batch, 1e-2)
            trace.append((engine.mean_loss(result), float(result.grad_norm)))
        if store is not None:
            store.save(engine, manifest_of(config, engine), None)
            store.wait()
            assert store.problem() is None
        return trace


def batches_of(config: Config, step: int) -> list[Any]:
    """[tokens, labels, mask, asked] of this rank at a step, as lists."""
    with topology.start(config) as here:
        ((_, batch),) = feed_of(config, here, range(step, step + 1))
        parts = [batch.tokens, batch.labels, batch.mask, *batch.fields.values()]
        return [part.tolist() for part in parts]
