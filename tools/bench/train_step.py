"""Tokens/s and memory of a training step against what one would use instead, in turns, in one run.

    python -m tools.bench.train_step [--shape long] [--json] [--rounds 15] [--threads 1,2]
                                     [--sides ours,lightning] [--training.precision bf16 ...]

Shapes: `long` is 4 layers, width 256, 8 heads, sequence 512, vocabulary 8192, batch 4; `smoke` that
of the smoke configuration, 2 layers, width 128, 4 heads, sequence 10, vocabulary 16, batch 128.
Fields of the configuration can be overridden; without overrides: fp32, ZeRO 0, all cores (or
OMP_NUM_THREADS). Each side lives in a process of its own, and they take turns, so that a machine
that changes its speed changes all of them. `ratio` is our tokens/s over another side's: the median
over rounds of the ratio within a round.

Sides:

    ours                       the engine, as configured
    zero_1                     the same with parallel.zero_stage 1, on one process as well
    compiled                   the same with training.compile; only where it is named, since the
                               first step takes a minute
    bare                       our model in a bare loop without DeepSpeed and schedule
    plain_pytorch              tools.bench.plain_gpt as it stands
    plain_pytorch_kept_memory  the same, told to keep freed memory, which we do for every run on a
                               CPU
    hugging_face               transformers' GPT-2 or Llama with its Trainer
    lightning                  the plain GPT under Lightning's Trainer

`overhead` is what the engine adds to the seconds of `bare`. `cpu_ratio` and `cpu_overhead` are the
same of the cores' seconds that a process took, which is closer where other work has the machine.
In bf16, plain_pytorch holds everything in bf16, while we, Hugging Face and Lightning keep fp32
weights beside.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from pretrain.config import Config, load_config, parse_arguments
from pretrain.console import run_program
from pretrain.errors import ConfigError, UserError
from pretrain.files import json_text
from tools.bench.interleaved import Memory, Orders, Side, Trainer, contest, missing
from tools.bench.rounds import Seconds, extremes, median, ratios, take_turns

SHAPES: dict[str, dict[str, dict[str, Any]]] = {
    "long": {
        "model": {
            "layers": 4,
            "hidden_size": 256,
            "attention_heads": 8,
            "sequence_length": 512,
            "vocabulary_size": 8192,
        },
        "training": {"global_batch": 4},
    },
    "smoke": {
        "model": {
            "layers": 2,
            "hidden_size": 128,
            "attention_heads": 4,
            "sequence_length": 10,
            "vocabulary_size": 16,
        },
        "training": {"global_batch": 128},
    },
}
STEPS = {"long": 1, "smoke": 40}
"""Steps in a turn."""


@dataclass(frozen=True)
class Kind:
    """A side that can be chosen.

    Attributes:
        run: trains by a configuration; a function or partial that another process can be sent.
        packages: that it needs beside the project's own.
        overrides: changes of the configuration.
    """

    run: Callable[[Config, Orders], None]
    packages: tuple[str, ...] = ()
    overrides: Mapping[str, Any] | None = None


OURS = Trainer("tools.bench.subject:run_ours")
PLAIN = Trainer("tools.bench.baseline_pytorch:run_plain")
KINDS = {
    "ours": Kind(OURS),
    "zero_1": Kind(OURS, overrides={"parallel": {"zero_stage": 1}}),
    "compiled": Kind(OURS, overrides={"training": {"compile": True}}),
    "bare": Kind(Trainer("tools.bench.subject:run_bare")),
    "plain_pytorch": Kind(PLAIN),
    "plain_pytorch_kept_memory": Kind(replace(PLAIN, options={"kept_memory": True})),
    "hugging_face": Kind(
        Trainer("tools.bench.hugging_face:run_hugging_face"), ("transformers", "accelerate")
    ),
    "lightning": Kind(Trainer("tools.bench.lightning_gpt:run_lightning"), ("lightning",)),
}
DEFAULT_SIDES = [name for name in KINDS if name != "compiled"]


def changed(config: Config, overrides: Mapping[str, Any]) -> Config:
    """The configuration with some fields set anew."""
    values = config.model_dump(exclude_unset=True)
    sections = {
        section: {**values.get(section, {}), **fields} for section, fields in overrides.items()
    }
    return load_config(None, {**values, **sections})


def chosen(names: Sequence[str]) -> list[str]:
    """Those of the named sides whose packages are there; says which are not.

    Raises:
        ConfigError: a name is not known.
    """
    for name in names:
        if name not in KINDS:
            raise ConfigError(f"--sides: unknown side {name}; known: {', '.join(KINDS)}")
    present = []
    for name in names:
        if lacking := missing(KINDS[name].packages):
            print(f"{name} is left out: {', '.join(lacking)} not installed", file=sys.stderr)
        else:
            present.append(name)
    return present


def measure(config: Config, names: Sequence[str], rounds: int, steps: int) -> dict[str, Any]:
    """Time the named sides in turns, each with the threads of `config.run.threads`.

    Raises:
        ConfigError: the configuration has what not all sides can do.
        UserError: a side ended early.
    """
    if config.model.dropout > 0.0:
        raise ConfigError(
            f"model.dropout {config.model.dropout}: the sides are compared without; leave it out"
        )
    config.check_layout(1)
    sides = {
        name: Side([(partial(kind.run, changed(config, kind.overrides or {})), {})])
        for name, kind in ((name, KINDS[name]) for name in names)
    }
    with contest(sides) as running:
        routes = {name: partial(running.turn, name, steps) for name in sides}
        seconds = take_turns(routes, rounds, {})
        memory = running.end()
    held = {name: one for name, (one,) in memory.items()}
    return summary(config, seconds, running.cpu, held, steps)


def summary(
    config: Config,
    seconds: Seconds,
    cpu_seconds: Seconds,
    memory: Mapping[str, Memory],
    steps: int,
) -> dict[str, Any]:
    """Ratios, medians and memory of measured seconds per step."""
    import torch

    from pretrain.distributed.topology import device_name, pick_device, share_threads
    from tools.bench.subject import ALONE

    tokens = config.training.global_batch * config.model.sequence_length
    result: dict[str, Any] = {}
    if "ours" in seconds:
        against = {
            name: ratios(seconds, name, "ours")
            for name in seconds
            if name not in ("ours", "zero_1")
        }
        result["ratio"] = {name: median(values) for name, values in against.items()}
        result["cpu_ratio"] = {name: median(ratios(cpu_seconds, name, "ours")) for name in against}
        result["ratio_range"] = {name: extremes(values) for name, values in against.items()}
    if "bare" in seconds:
        for field, taken in (("overhead", seconds), ("cpu_overhead", cpu_seconds)):
            result[field] = {
                name: round(median(ratios(taken, name, "bare")) - 1.0, 4)
                for name in ("ours", "zero_1")
                if name in taken
            }
    share_threads(config.run.threads)
    return {
        **result,
        "tokens_per_second": {name: median([tokens / s for s in t]) for name, t in seconds.items()},
        "memory_mib": {name: asdict(held) for name, held in memory.items()},
        "rounds": len(next(iter(seconds.values()))),
        "steps_per_round": steps,
        "threads": torch.get_num_threads(),
        "device": device_name(pick_device(config.run.device, ALONE)),
        "precision": config.training.precision,
        "preset": config.model.preset,
        "zero_stage": config.parallel.zero_stage,
        "torch": torch.__version__,
    }


def table(result: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{result['device']}, {result['threads']} thread(s), {result['precision']}"]
    for name, speed in result["tokens_per_second"].items():
        held = result["memory_mib"][name]
        line = f"  {name:<26} {speed:>10,.0f} tokens/s, peak {held['peak']:,.0f} MiB"
        line += f" ({held['before_model']:,.0f} before the model)"
        if held["device_peak"] is not None:
            line += f", {held['device_peak']:,.0f} MiB on the device"
        lines.append(line)
    for name, ratio in result.get("ratio", {}).items():
        low, high = result["ratio_range"][name]
        cpu = result["cpu_ratio"][name]
        lines.append(
            f"ours / {name:<26} {ratio:.3f} (rounds from {low:.3f} to {high:.3f}; CPU {cpu:.3f})"
        )
    for name, share in result.get("overhead", {}).items():
        cpu = result["cpu_overhead"][name]
        lines.append(f"{name} over bare: {share:+.1%} seconds, {cpu:+.1%} of the cores'")
    return "\n".join(lines)


def listed(text: str) -> list[str]:
    """The parts of a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def counts(text: str) -> list[int]:
    """Whole numbers of a list with commas, each at least 1."""
    numbers = [int(part) for part in listed(text)]
    if not numbers or min(numbers) < 1:
        raise ValueError(text)
    return numbers


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the benchmark."""
    parser.add_argument("--json", action="store_true", help="print JSON, a line for each count")
    parser.add_argument("--rounds", type=int, default=15, help="turns that each side gets")
    parser.add_argument("--shape", choices=list(SHAPES), default="long", help="of the model")
    parser.add_argument(
        "--steps-per-round", type=int, help="steps in a turn; 1, of shape smoke 40, if not given"
    )
    parser.add_argument(
        "--threads", type=counts, default=None, help="one run for each count, such as 1,2"
    )
    parser.add_argument(
        "--sides",
        type=listed,
        default=DEFAULT_SIDES,
        help=f"of {','.join(KINDS)}; all but compiled if not given",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Returns the exit code."""
    try:
        given, options = parse_arguments(
            list(sys.argv[1:] if argv is None else argv), "tools.bench.train_step", add_options
        )
        config = changed(
            load_config(None, SHAPES[options.shape]), given.model_dump(exclude_unset=True)
        )
        names = chosen(options.sides)
        steps = options.steps_per_round or STEPS[options.shape]
        for threads in options.threads or [config.run.threads]:
            one = changed(config, {"run": {"threads": threads}})
            result = measure(one, names, max(1, options.rounds), max(1, steps))
            print(json_text(result) if options.json else table(result), flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    run_program(main)
