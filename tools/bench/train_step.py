"""Tokens/s of a training step against plain PyTorch, in turns, in one run.

    python -m tools.bench.train_step [--json] [--rounds 15] [--training.precision bf16 ...]

Fields of the configuration can be overridden; without overrides: 4 layers, width 256, 8 heads,
sequence 512, vocabulary 8192, batch 4, fp32, ZeRO 0, all cores (or OMP_NUM_THREADS).

Each side lives in a process of its own, so that none disturbs the other's memory, and they take
turns, so that a machine that changes its speed changes all of them. `ratio` is our tokens/s over a
baseline's: the median over rounds of the ratio within a round. The baselines are
tools.bench.plain_gpt as it stands (`plain_pytorch`), and the same with the C library told to keep
freed memory, which we do for every run on a CPU (`plain_pytorch_kept_memory`).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch

from pretrain import cpu
from pretrain import topology as topologies
from pretrain.config import Config, load_config, parse_arguments
from pretrain.data.batches import Batch, made_up_batch
from pretrain.errors import UserError
from pretrain.ranks import Ranks
from pretrain.topology import device_name, pick_device, share_threads

ALONE = Ranks("none", 0, 1, 0, 1)
DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {
        "layers": 4,
        "hidden_size": 256,
        "attention_heads": 8,
        "sequence_length": 512,
        "vocabulary_size": 8192,
    },
    "training": {"global_batch": 4},
}
BASELINES = ("plain_pytorch", "plain_pytorch_kept_memory")


def batch_of(config: Config, vocabulary: int) -> Batch:
    """What every side trains on."""
    return made_up_batch(config.training.global_batch, config.model.sequence_length, vocabulary)


def timed(step: Callable[[], object], steps: int, device: torch.device) -> float:
    """Seconds per step."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / steps


def serve(step: Callable[[], object], device: torch.device, orders: Connection) -> None:
    """Warm up, then time as many steps as is asked for, until asked for none."""
    timed(step, 2, device)
    orders.send(0.0)
    while steps := orders.recv():
        orders.send(timed(step, steps, device))


def run_ours(config: Config, orders: Connection) -> None:
    """The process of our side."""
    with topologies.start(config, ALONE) as topology:
        from pretrain.model.gpt import build
        from pretrain.training.engine import Engine

        vocabulary = config.vocabulary_size(2)
        batch = batch_of(config, vocabulary).to(topology.device)
        engine = Engine(config, topology, build(config, topology, vocabulary))
        rate = config.optimizer.learning_rate
        serve(lambda: engine.train_step(batch, rate), topology.device, orders)


def run_plain(config: Config, orders: Connection, kept_memory: bool) -> None:
    """The process of a baseline."""
    from tools.bench.plain_gpt import PlainTrainer

    share_threads(config.run.threads, ALONE)
    if kept_memory:
        cpu.keep_freed_memory()
    device = pick_device(config.run.device, ALONE)
    vocabulary = config.vocabulary_size(2)
    batch = batch_of(config, vocabulary).to(device)
    plain = PlainTrainer(config, vocabulary, device)
    if config.training.precision == "bf16":
        plain.model.to(torch.bfloat16)
    serve(lambda: plain.step(batch.tokens, batch.labels), device, orders)


def measure(config: Config, rounds: int, steps: int) -> dict[str, Any]:
    """Time all sides in turns.

    Raises:
        UserError: a side ended early.
    """
    spawn = multiprocessing.get_context("spawn")
    sides: dict[str, tuple[Any, Connection]] = {}
    for name in ("ours", *BASELINES):
        here, there = spawn.Pipe()
        if name == "ours":
            process = spawn.Process(target=run_ours, args=(config, there))
        else:
            process = spawn.Process(target=run_plain, args=(config, there, name != BASELINES[0]))
        process.start()
        there.close()
        sides[name] = (process, here)
        _answer(name, here)  # warm before the next one starts
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        names = list(sides) if turn % 2 == 0 else list(reversed(sides))
        for name in names:
            sides[name][1].send(steps)
            seconds[name].append(_answer(name, sides[name][1]))
        print(f"round {turn + 1} of {rounds}", end="\r", file=sys.stderr, flush=True)
    for process, orders in sides.values():
        orders.send(0)
        process.join()
    return summary(config, seconds, steps)


def _answer(name: str, orders: Connection) -> float:
    try:
        return float(orders.recv())
    except EOFError:
        raise UserError(f"the process of {name} ended early; its error stands above") from None


def summary(config: Config, seconds: dict[str, list[float]], steps: int) -> dict[str, Any]:
    """Ratios and medians of measured seconds per step."""
    tokens = config.training.global_batch * config.model.sequence_length
    ratios = {
        name: [b / a for a, b in zip(seconds["ours"], seconds[name], strict=True)]
        for name in BASELINES
    }
    share_threads(config.run.threads, ALONE)
    return {
        "ratio": {name: round(statistics.median(r), 4) for name, r in ratios.items()},
        "ratio_range": {name: [round(min(r), 4), round(max(r), 4)] for name, r in ratios.items()},
        "tokens_per_second": {
            name: round(tokens / statistics.median(times), 1) for name, times in seconds.items()
        },
        "rounds": len(seconds["ours"]),
        "steps_per_round": steps,
        "threads": torch.get_num_threads(),
        "device": device_name(pick_device(config.run.device, ALONE)),
        "precision": config.training.precision,
        "zero_stage": config.parallel.zero_stage,
        "torch": torch.__version__,
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the benchmark."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=15, help="turns that each side gets")
    parser.add_argument("--steps-per-round", type=int, default=1, help="steps in a turn")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Returns the exit code."""
    try:
        given, options = parse_arguments(
            list(sys.argv[1:] if argv is None else argv), "tools.bench.train_step", add_options
        )
        changed = given.model_dump(exclude_unset=True)
        config = load_config(
            None,
            {
                section: {**DEFAULTS.get(section, {}), **changed.get(section, {})}
                for section in {*DEFAULTS, *changed}
            },
        )
        result = measure(config, max(1, options.rounds), max(1, options.steps_per_round))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(result))
        return 0
    print(f"{result['device']}, {result['threads']} thread(s), {result['precision']}")
    for name, speed in result["tokens_per_second"].items():
        print(f"  {name:<26} {speed:>10,.0f} tokens/s")
    for name, ratio in result["ratio"].items():
        low, high = result["ratio_range"][name]
        print(f"ours / {name:<26} {ratio:.3f} (rounds from {low:.3f} to {high:.3f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
