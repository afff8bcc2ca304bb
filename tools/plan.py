"""What a configuration will cost in memory, communication and time, before anything is started.

    python -m tools.plan --config configs/llama_7b.yaml
    python -m tools.plan --config FILE --gpus 32 [--gpu-memory 80GB] [--json]

Without --gpus: the configured layout with one copy of the model. With it: the configured layout on
so many devices, and a search for layouts that fit their memory, fastest estimated step first. No
text is read and no device is needed. docs/planning.md says how to read the output.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from pretrain.config import Config, parse_arguments
from pretrain.console import run_program
from pretrain.errors import ConfigError, UserError
from pretrain.files import json_text
from pretrain.model.flops import PEAKS, peak_flops
from pretrain.planning import Machine, Plan, Search, make_plan, search, vocabulary_of
from pretrain.planning.layout import Device
from pretrain.planning.report import plan_lines, plan_values, search_lines, search_values

UNITS = {"GB": 10**9, "GiB": 2**30, "MB": 10**6, "MiB": 2**20}
DEFAULT = Machine()
RESERVE = 0.1
"""Share of a device's memory left to CUDA, NCCL and fragmentation."""


def bytes_of(text: str) -> int:
    """Bytes of an amount such as `80GB` or `74.5 GiB`.

    Raises:
        ConfigError: it is no such amount.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(GB|GiB|MB|MiB)", text.strip())
    if match is None:
        raise ConfigError(
            f"--gpu-memory {text}: expected a number and one of {', '.join(UNITS)}, such as 80GB"
        )
    return int(float(match[1]) * UNITS[match[2]])


def machine_of(config: Config, options: argparse.Namespace) -> Machine | None:
    """The machine that is assumed; None for a CPU whose peak is not given.

    Raises:
        ConfigError: a number is out of range, or the device's peak is not known.
    """
    for name in ("mfu", "link", "network", "gpus_per_node", "peak"):
        value = getattr(options, name)
        if value is not None and (value <= 0 or (name == "mfu" and value > 1)):
            bound = "above 0 and at most 1" if name == "mfu" else "above 0"
            raise ConfigError(f"--{name.replace('_', '-')} {value}: expected a number {bound}")
    known = peak_flops(options.device, config.training.precision)
    peak = options.peak * 1e12 if options.peak else known
    if config.run.device == "cpu" and not options.peak:
        return None
    if peak is None:
        raise ConfigError(
            f"--device {options.device}: its peak is not known (known: {', '.join(PEAKS)}); give "
            "it in TFLOP/s with --peak"
        )
    return Machine(
        options.device,
        peak,
        options.mfu,
        options.link * 1e9,
        options.network * 1e9,
        options.gpus_per_node,
    )


def configured(config: Config, gpus: int, vocabulary: int, machine: Machine | None) -> Plan:
    """The configuration's own layout."""
    device: Device = "cpu" if config.run.device == "cpu" else "cuda"
    return make_plan(config, gpus, vocabulary, machine, device)


def look(config: Config, options: argparse.Namespace) -> tuple[Plan | str, Search | None, int]:
    """The configured plan, or why there is none; what a search finds; bytes that a rank may use.

    Raises:
        ConfigError: an option is out of range, or there is neither a plan nor a search.
    """
    limit = int(bytes_of(options.gpu_memory) * (1 - options.reserve))
    if not 0 <= options.reserve < 1:
        raise ConfigError(f"--reserve {options.reserve}: expected at least 0 and below 1")
    machine = machine_of(config, options)
    vocabulary = vocabulary_of(config)
    if options.gpus is None:
        gpus = config.parallel.model_parallel
        return configured(config, gpus, vocabulary, machine), None, limit
    if options.gpus < 1:
        raise ConfigError(f"--gpus {options.gpus}: expected at least 1")
    if machine is None:
        raise ConfigError("--gpus searches by step time, which a CPU has no known peak for; give "
                          "--peak, or another run.device")  # fmt: skip
    plan: Plan | str
    try:
        plan = configured(config, options.gpus, vocabulary, machine)
    except ConfigError as error:
        plan = str(error)
    return plan, search(config, options.gpus, vocabulary, machine, limit), limit


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the planner."""
    add = parser.add_argument
    add("--gpus", type=int, help="devices; also searches for layouts")
    add("--gpu-memory", default="80GB", help="memory of a device: 80GB, 40GiB (default: 80GB)")
    add("--reserve", type=float, default=RESERVE, help="share of it left to CUDA, NCCL and "
        f"fragmentation (default: {RESERVE})")  # fmt: skip
    add("--device", default=DEFAULT.device, help=f"name of a device (default: {DEFAULT.device})")
    add("--peak", type=float, help="dense TFLOP/s of a device; by its name if not given")
    add("--mfu", type=float, default=DEFAULT.mfu,
        help="share of the peak that a device reaches by itself (default: 0.45)")  # fmt: skip
    add("--link", type=float, default=DEFAULT.link / 1e9,
        help="GB/s that a device sends within its node (default: 450)")  # fmt: skip
    add("--network", type=float, default=DEFAULT.network / 1e9,
        help="GB/s that a device sends to other nodes (default: 50)")  # fmt: skip
    add("--gpus-per-node", type=int, default=DEFAULT.node, help="devices of a node (default: 8)")
    add("--top", type=int, default=10, help="layouts that are listed (default: 10)")
    add("--json", action="store_true", help="print one JSON object")


def _values(plan: Plan | str, found: Search | None, limit: int, shown: int) -> dict[str, Any]:
    values: dict[str, Any] = {"configured": plan_values(plan) if isinstance(plan, Plan) else None}
    if isinstance(plan, str):
        values["refused"] = plan
    values["limit"] = limit
    if found is not None:
        values["search"] = search_values(found, shown)
    return values


def _lines(plan: Plan | str, found: Search | None, limit: int, shown: int) -> list[str]:
    if isinstance(plan, str):
        lines = textwrap.wrap(f"as configured: {plan}", 80)
    else:
        lines = plan_lines(plan, limit if plan.layout.device == "cuda" else None)
    if found is not None:
        lines += ["", *search_lines(found, shown)]
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Plan and print. Returns the exit code."""
    try:
        config, options = parse_arguments(
            list(sys.argv[1:] if argv is None else argv), "tools.plan", add_options
        )
        result = (*look(config, options), max(1, options.top))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json_text(_values(*result)) if options.json else "\n".join(_lines(*result)))
    return 0


if __name__ == "__main__":
    run_program(main)
