"""Training steps on one GPU in bf16: tokens/s, MFU and memory against plain PyTorch, in one run.

    python -m tools.bench.gpu [--sizes 124M,350M,1.3B] [--sides ours,plain_compiled]
                              [--out runs/gpu.json] [--training.micro_batch 4 ...]

Sides: `ours` as configured, `ours_compiled` with training.compile, and tools.bench.plain_gpt with
fp32 weights under `torch.autocast`, as it stands (`plain`) and through `torch.compile`
(`plain_compiled`). Each has the GPU for itself, in a process of its own, once in every round; every
other round goes the other way round. Then comes the selector's share: what a step waits for batches
in which it has selected one token of each sentence (tools.bench.selection_share).

Writes one JSON file and prints one table. Fields of the configuration are overridden for all sizes.
`--device cpu --tiny` shows on any machine that it runs; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pretrain.config import Config, load_config, parse_arguments
from pretrain.distributed.topology import device_name, pick_device
from pretrain.errors import ConfigError, UserError
from pretrain.files import written_whole
from pretrain.model.flops import FORMULA, model_cost, peak_flops
from tools.bench.baseline_pytorch import run_plain
from tools.bench.cooccurrence import CORPUS_CHARACTERS, docstrings, words_of
from tools.bench.interleaved import Memory, Side, contest
from tools.bench.rounds import significant
from tools.bench.selection_share import SPECIALS, measure_share
from tools.bench.subject import ALONE, TOKENIZER, run_ours
from tools.bench.train_step import Kind, changed, listed

Turns = list[tuple[float, Memory]]
"""Of one side in each round: seconds per step, and memory."""

COMMON: dict[str, dict[str, Any]] = {
    "model": {"vocabulary_size": 50304},
    "training": {"precision": "bf16"},
    "run": {"device": "cuda"},
}
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "124M": {
        "model": {
            "layers": 12,
            "hidden_size": 768,
            "attention_heads": 12,
            "sequence_length": 1024,
        },
        "training": {"global_batch": 32, "micro_batch": 16},
    },
    "350M": {
        "model": {
            "layers": 24,
            "hidden_size": 1024,
            "attention_heads": 16,
            "sequence_length": 1024,
        },
        "training": {"global_batch": 32, "micro_batch": 16},
    },
    "1.3B": {
        "model": {
            "layers": 24,
            "hidden_size": 2048,
            "attention_heads": 16,
            "sequence_length": 2048,
        },
        "training": {"global_batch": 32, "micro_batch": 4},
    },
}
TINY: dict[str, dict[str, Any]] = {
    "model": {
        "layers": 1,
        "hidden_size": 32,
        "attention_heads": 2,
        "sequence_length": 32,
        "vocabulary_size": 256,
    },
    "training": {"global_batch": 4, "micro_batch": 2},
}
KINDS = {
    "ours": Kind(run_ours),
    "ours_compiled": Kind(run_ours, overrides={"training": {"compile": True}}),
    "plain": Kind(partial(run_plain, master_weights=True)),
    "plain_compiled": Kind(partial(run_plain, master_weights=True, compiled=True)),
}


def config_of(size: str, device: str, tiny: bool, overrides: Mapping[str, Any]) -> Config:
    """The configuration of a size; with `tiny`, of something that stands for it."""
    config = changed(load_config(None, COMMON), SIZES[size])
    if tiny:
        config = changed(config, TINY)
    return changed(changed(config, {"run": {"device": device}}), overrides)


def time_sides(
    config: Config, names: Sequence[str], rounds: int, turns: int, steps: int
) -> dict[str, Turns]:
    """Seconds per step of each side, the median of a round's turns, and its memory. A side that
    ends early has none."""
    taken: dict[str, Turns] = {name: [] for name in names}
    failed: set[str] = set()
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            if name in failed:
                continue
            kind = KINDS[name]
            one = changed(config, kind.overrides or {})
            try:
                with contest({name: Side([(partial(kind.run, one), {})])}) as running:
                    seconds = [running.turn(name, steps) for _ in range(turns)]
                    ((memory,),) = running.end().values()
            except UserError as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
                failed.add(name)
                continue
            taken[name].append((statistics.median(seconds), memory))
            print(f"round {number + 1} of {rounds}: {name} done", file=sys.stderr, flush=True)
    return {name: taken[name] for name in names if name not in failed}


def summary(config: Config, taken: Mapping[str, Turns], device: str) -> dict[str, Any]:
    """Rates, MFU, memory and ratios of one size."""
    tokens = config.training.global_batch * config.model.sequence_length
    cost = model_cost(config.model, config.vocabulary_size(TOKENIZER))
    peak = peak_flops(device, config.training.precision)
    sides = {}
    for name, turns in taken.items():
        rate = tokens / statistics.median(seconds for seconds, _ in turns)
        memories = [memory for _, memory in turns]
        on_device = [m.device_peak for m in memories if m.device_peak is not None]
        sides[name] = {
            "tokens_per_second": significant(rate),
            "mfu": None if peak is None else significant(rate * cost.flops_per_token / peak),
            "device_peak_mib": max(on_device, default=None),
            "host_peak_mib": max(memory.peak for memory in memories),
        }
    return {
        "parameters": cost.parameters,
        "flops_per_token": cost.flops_per_token,
        "peak_flops": peak,
        "sides": sides,
        "ratio": {
            f"{ours} / {other}": significant(
                statistics.median(
                    b / a for (a, _), (b, _) in zip(taken[ours], taken[other], strict=True)
                )
            )
            for ours in taken
            for other in taken
            if ours.startswith("ours") and not other.startswith("ours")
        },
        "configuration": config.model_dump(mode="json", include={"model", "training", "parallel"}),
    }


def share_of(config: Config, characters: int, tokens: int, rounds: int, steps: int) -> Any:
    """The selector's share in a process of its own, which gives the GPU back at its end."""
    vocabulary = min(8192, config.vocabulary_size(TOKENIZER) - SPECIALS)
    text = docstrings(Path(sysconfig.get_path("stdlib")), characters)
    words = words_of(text, vocabulary, tokens)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        asked = pool.submit(
            measure_share, words, vocabulary, rounds, steps, config.run.threads, config
        )
        return asked.result()


def table(result: Mapping[str, Any]) -> str:
    """For people, in Markdown."""
    lines = [
        f"{result['device']}, torch {result['torch']}; MFU = tokens/s x FLOPs per token / peak, "
        f"FLOPs per token = {FORMULA}",
        "",
        "| size | side | tokens/s | MFU | peak on the device | step waits for selection |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for size, found in result["sizes"].items():
        share = found.get("selection", {}).get("selection_share")
        for name, side in found["sides"].items():
            mfu, held = side["mfu"], side["device_peak_mib"]
            lines.append(
                f"| {size} | {name} | {side['tokens_per_second']:,.0f} "
                f"| {'' if mfu is None else f'{mfu:.1%}'} "
                f"| {'' if held is None else f'{held / 1024:.1f} GiB'} "
                f"| {f'{share:.2%}' if name == 'ours' and share is not None else ''} |"
            )
    lines.append("")
    for size, found in result["sizes"].items():
        lines += [f"{size}: {pair} {ratio:.3f}" for pair, ratio in found["ratio"].items()]
        if found["peak_flops"] is not None:
            lines.append(f"{size}: peak {found['peak_flops']:.4g} FLOP/s")
    return "\n".join(lines)


def known(option: str, names: Sequence[str], all_names: Sequence[str]) -> list[str]:
    """The names, each of which is one of `all_names`.

    Raises:
        ConfigError: one is not.
    """
    for name in names:
        if name not in all_names:
            raise ConfigError(f"{option}: unknown {name}; known: {', '.join(all_names)}")
    return list(names)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the benchmark."""
    parser.add_argument("--sizes", type=listed, default=list(SIZES), help=f"of {','.join(SIZES)}")
    parser.add_argument("--sides", type=listed, default=list(KINDS), help=f"of {','.join(KINDS)}")
    parser.add_argument("--rounds", type=int, default=2, help="times that each side is started")
    parser.add_argument("--turns", type=int, default=5, help="turns of each start")
    parser.add_argument(
        "--steps-per-turn", type=int, default=4, help="steps that are timed at once"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/gpu.json"), help="JSON file")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="shapes that a CPU runs in seconds")
    parser.add_argument("--no-selection", action="store_true", help="leave the share out")


def run(options: argparse.Namespace, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Measure all that is asked for.

    Raises:
        ConfigError: there is no CUDA device, or an option or field is not known.
        UserError: no side of a size came to its end.
    """
    sizes = known("--sizes", options.sizes, list(SIZES))
    names = known("--sides", options.sides, list(KINDS))
    configs = {size: config_of(size, options.device, options.tiny, overrides) for size in sizes}
    device = device_name(pick_device(options.device, ALONE))
    result: dict[str, Any] = {"device": device, "torch": torch.__version__, "sizes": {}}
    for size, config in configs.items():
        print(f"{size}:", file=sys.stderr, flush=True)
        taken = time_sides(
            config,
            names,
            max(1, options.rounds),
            max(1, options.turns),
            max(1, options.steps_per_turn),
        )
        if not taken:
            raise UserError(f"{size}: no side came to its end; lower training.micro_batch")
        found = summary(config, taken, device)
        if not options.no_selection:
            small = options.tiny
            found["selection"] = share_of(
                config,
                200_000 if small else CORPUS_CHARACTERS,
                20_000 if small else 2_000_000,
                1 if small else 6,
                2 if small else 4,
            )
        result["sizes"][size] = found
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write and print. Returns the exit code."""
    try:
        given, options = parse_arguments(
            list(sys.argv[1:] if argv is None else argv), "tools.bench.gpu", add_options
        )
        if options.device == "cuda":
            _expect_cuda()
        result = run(options, given.model_dump(exclude_unset=True))
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(options.out) as beside:
            beside.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(result))
    print(f"\nwritten to {options.out}")
    return 0


def _expect_cuda() -> None:
    try:
        pick_device("cuda", ALONE)
    except ConfigError:
        raise ConfigError(
            "tools.bench.gpu needs a CUDA device, found none that is visible (or DS_ACCELERATOR is "
            "cpu); run it on a GPU machine, or check its logic with --device cpu --tiny"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
