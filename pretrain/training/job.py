"""Putting the parts of a run together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch

from pretrain import topology as topologies
from pretrain.config import Config
from pretrain.data.batches import Sampler, made_up_batch
from pretrain.data.feed import BatchFeed
from pretrain.model.flops import FORMULA, model_cost
from pretrain.ranks import Ranks
from pretrain.topology import Topology
from pretrain.training.run_directory import RunDirectory
from pretrain.training.selecting import SelectionSchedule
from pretrain.training.work import build_work
from pretrain.training.zero import state_bytes


def run(config: Config, ranks: Ranks) -> None:
    """Train as configured and leave the run directory behind."""
    work = build_work(config)
    vocabulary = config.vocabulary_size(work.tokenizer.size)
    directory = RunDirectory(config.run.directory)
    if ranks.rank == 0:
        directory.prepare(config)
    with topologies.start(config, ranks) as topology:
        # Imported once the backends are loaded quietly.
        from pretrain.model.gpt import build
        from pretrain.training.callbacks import (
            Callback,
            JsonLines,
            ProgressBar,
            TensorBoard,
            WeightSaver,
        )
        from pretrain.training.engine import Engine
        from pretrain.training.loop import train

        settings = config.training
        sampler = Sampler(work.examples, settings.global_batch, settings.seed)
        schedule = SelectionSchedule(config, topology, work.fitter, sampler)
        selection = schedule.current
        cost = model_cost(config.model, vocabulary)
        engine = Engine(config, topology, build(config, topology, vocabulary))
        feed = BatchFeed(
            work.source(schedule, sampler, topology),
            topology,
            settings.global_batch // topology.data.size,
            config.model.sequence_length,
            range(settings.steps),
        )
        evaluator = work.evaluator(topology, engine.deepspeed.module, schedule)
        callbacks: list[Callback] = [WeightSaver(config, topology, engine.chunks, directory.path)]
        if topology.is_first_rank:
            print(topology.describe())
            print(f"{cost.parameters:,} parameters; {work.summary}")
            print(selection.table(), flush=True)
            callbacks.append(JsonLines(directory.path))
            if config.run.tensorboard:
                callbacks.append(TensorBoard(directory.path))
            if config.run.progress:
                callbacks.append(ProgressBar(settings.steps, selection.strategy))
        started = time.perf_counter()
        try:
            evaluation = train(config, topology, engine, feed, evaluator, cost, callbacks)
        finally:
            for callback in callbacks:
                callback.close()
        if topology.is_first_rank:
            seconds = time.perf_counter() - started
            tokens = settings.steps * settings.global_batch * config.model.sequence_length
            directory.finish(
                {
                    **asdict(evaluation),
                    "steps": settings.steps,
                    "tokens": tokens,
                    "model_flops": tokens * cost.flops_per_token,
                    "parameters": cost.parameters,
                    "train_seconds": seconds,
                    "fingerprint": schedule.current.fingerprint,
                    "layout": topology.describe(),
                }
            )
            print(
                f"{evaluation} over {evaluation.examples:,} held-out examples after "
                f"{settings.steps} steps, {seconds:.0f} s; "
                f"results in {directory.path}"
            )


def dry_run(config: Config, ranks: Ranks) -> None:
    """Build everything, run one made-up batch, print what it takes. Trains and writes nothing."""
    work = build_work(config)
    vocabulary = config.vocabulary_size(work.tokenizer.size)
    with topologies.start(config, ranks) as topology:
        from pretrain.model.gpt import build
        from pretrain.training.engine import Engine

        chunks = build(config, topology, vocabulary)
        held = sum(parameter.numel() for parameter in chunks.parameters())
        engine = Engine(config, topology, chunks)
        batch = made_up_batch(
            config.training.global_batch // topology.data.size,
            config.model.sequence_length,
            vocabulary,
            topology.data.size,
        )
        started = time.perf_counter()
        result = engine.train_step(batch.to(topology.device), 0.0)
        loss = engine.mean_loss(result)
        seconds = time.perf_counter() - started
        if topology.is_first_rank:
            print("\n".join(_report(config, topology, vocabulary, held, loss, seconds)))


def _report(
    config: Config, topology: Topology, vocabulary: int, held: int, loss: float, seconds: float
) -> Sequence[str]:
    cost = model_cost(config.model, vocabulary)
    memory = state_bytes(config, held, topology.data.size)
    mib = {name: f"{size / 2**20:.1f} MiB" for name, size in memory.items()}
    lines = [
        config.to_yaml().rstrip(),
        "---",
        f"layout       {topology.describe()}",
        f"parameters   {cost.parameters:,} in all, {held:,} of rank 0 before ZeRO",
        f"memory       rank 0: {', '.join(f'{name} {size}' for name, size in mib.items())}; "
        "activations come on top",
        f"FLOPs/token  {cost.flops_per_token:,} for a step's forward and backward pass",
        f"             = {FORMULA}",
        f"tokens/step  {config.training.global_batch * config.model.sequence_length:,}",
        f"made-up batch: loss {loss:.4f} (ln {vocabulary} = {np.log(vocabulary):.4f}), "
        f"first step {seconds:.2f} s",
    ]
    if topology.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(topology.device)
        lines.insert(-1, f"peak         {peak / 2**20:.1f} MiB allocated on the device")
    return lines
