"""Strong and weak scaling on gloo: tokens/s with 1, 2 and 4 processes, in turns, in one run.

    python -m tools.bench.scaling [--json] [--rounds 8] [--processes 1,2,4] [--layouts dp,tensor]
                                  [--model.layers 4 ...]

The model and batch of tools.bench.train_step, with one thread for each process. Strong: the global
batch stays the same. Weak: it grows with the processes. `speedup` is tokens/s over those of one
process in the same round, `efficiency` the speedup over the processes, or over the cores where
there are fewer of them. Processes that train each for itself (`apart`, weak only) show what the
machine allows.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pretrain.config import Config, load_config, parse_arguments
from pretrain.console import run_program
from pretrain.distributed.ranks import free_port
from pretrain.errors import ConfigError, UserError
from pretrain.files import json_text
from pretrain.testing.forks import environment
from tools.bench.interleaved import Side, contest
from tools.bench.rounds import Seconds, extremes, median, ratios, take_turns
from tools.bench.train_step import OURS, SHAPES, changed, counts, listed

ONE = "1 process"


@dataclass(frozen=True)
class Layout:
    """How processes train together.

    Attributes:
        parallel: fields of `parallel`; an axis that is None takes all processes.
        together: False where each trains for itself.
        weak: whether there is a point in a batch that grows with the processes.
    """

    parallel: Mapping[str, int | None] = field(default_factory=dict)
    together: bool = True
    weak: bool = True

    def of(self, processes: int) -> dict[str, int]:
        """Fields of `parallel` for so many processes."""
        return {name: processes if v is None else v for name, v in self.parallel.items()}


LAYOUTS = {
    "apart": Layout(together=False),
    "dp": Layout({"zero_stage": 0}),
    "dp_zero_1": Layout({"zero_stage": 1}),
    "dp_zero_2": Layout({"zero_stage": 2}),
    "dp_zero_3": Layout({"zero_stage": 3}),
    "tensor": Layout({"tensor": None}, weak=False),
    "pipeline": Layout({"pipeline": None}),
    "tensor_2_dp": Layout({"tensor": 2}),
}
DEFAULT_LAYOUTS = ("apart", "dp", "dp_zero_1", "tensor")


def side_of(config: Config, layout: Layout, processes: int, weak: bool) -> Side:
    """The processes of one layout; `config` is that of one process.

    Raises:
        ConfigError: the layout does not fit the processes or the batch.
    """
    batch = config.training.global_batch
    grown = batch * processes if weak and layout.together else batch
    training: dict[str, int] = {"global_batch": grown}
    parallel = layout.of(processes)
    if parallel.get("pipeline", 1) > 1 and config.training.micro_batch is None:
        training["micro_batch"] = 1
    one = changed(config, {"parallel": parallel, "training": training})
    run = partial(OURS, one)
    if not layout.together:
        return Side([(run, environment(0, 1, free_port())) for _ in range(processes)])
    one.check_layout(processes)
    port = free_port()
    return Side([(run, environment(rank, processes, port)) for rank in range(processes)])


def sides_of(
    config: Config, names: Sequence[str], processes: Sequence[int], weak: bool
) -> dict[str, Side]:
    """All that is compared, after one process alone; says what does not fit and leaves it out."""
    sides = {ONE: side_of(config, Layout(), 1, weak)}
    for count in processes:
        for name in names:
            layout = LAYOUTS[name]
            if count == 1 or (weak and not layout.weak) or not (weak or layout.together):
                continue
            try:
                sides[f"{count} {name}"] = side_of(config, layout, count, weak)
            except ConfigError as error:
                print(f"{count} {name} is left out: {error}", file=sys.stderr)
    return sides


def measure(
    config: Config, names: Sequence[str], processes: Sequence[int], rounds: int, steps: int
) -> dict[str, Any]:
    """Strong scaling, then weak scaling."""
    import torch

    result: dict[str, Any] = {}
    for kind in ("strong", "weak"):
        sides = sides_of(config, names, processes, kind == "weak")
        with contest(sides) as running:
            routes = {name: partial(running.turn, name, steps) for name in sides}
            seconds = take_turns(routes, rounds, {})
            memory = running.end()
        result[kind] = summary(config, seconds, kind == "weak")
        for name, held in memory.items():
            result[kind][name]["peak_mib_of_a_process"] = max(one.peak for one in held)
    return {
        **result,
        "cores": cores(),
        "rounds": rounds,
        "steps_per_round": steps,
        "precision": config.training.precision,
        "torch": torch.__version__,
    }


def cores() -> int:
    """That the processes have."""
    return len(os.sched_getaffinity(0))


def summary(config: Config, seconds: Seconds, weak: bool) -> dict[str, dict[str, Any]]:
    """Tokens/s, speedup and efficiency of measured seconds per step."""
    tokens = config.training.global_batch * config.model.sequence_length
    result: dict[str, dict[str, Any]] = {}
    for name, taken in seconds.items():
        processes = int(name.split()[0])
        work = processes if weak else 1
        speedups = [work * ratio for ratio in ratios(seconds, ONE, name)]
        result[name] = {
            "tokens_per_second": median([work * tokens / s for s in taken]),
            "speedup": median(speedups),
            "speedup_range": extremes(speedups),
            "efficiency": median([s / min(processes, cores()) for s in speedups]),
        }
    return result


def table(result: dict[str, Any]) -> str:
    """For people."""
    lines = [f"CPU, {result['cores']} core(s), {result['precision']}, 1 thread for each process"]
    for kind in ("strong", "weak"):
        lines.append(f"{kind:<24} {'tokens/s':>10} {'speedup':>8} {'of cores':>9} {'peak MiB':>9}")
        for name, found in result[kind].items():
            lines.append(
                f"  {name:<22} {found['tokens_per_second']:>10,.0f} {found['speedup']:>8.2f} "
                f"{found['efficiency']:>9.0%} {found['peak_mib_of_a_process']:>9,.0f}"
            )
    return "\n".join(lines)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the benchmark."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=8, help="turns that each layout gets")
    parser.add_argument("--steps-per-round", type=int, default=2, help="steps in a turn")
    parser.add_argument("--processes", type=counts, default=[1, 2, 4], help="such as 1,2,4")
    parser.add_argument(
        "--layouts",
        type=listed,
        default=list(DEFAULT_LAYOUTS),
        help=f"of {','.join(LAYOUTS)}; {','.join(DEFAULT_LAYOUTS)} if not given",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Returns the exit code."""
    try:
        given, options = parse_arguments(
            list(sys.argv[1:] if argv is None else argv), "tools.bench.scaling", add_options
        )
        for name in options.layouts:
            if name not in LAYOUTS:
                raise ConfigError(f"--layouts: unknown layout {name}; known: {', '.join(LAYOUTS)}")
        config = changed(load_config(None, SHAPES["long"]), given.model_dump(exclude_unset=True))
        config = changed(config, {"run": {"device": "cpu", "threads": 1}})
        result = measure(
            config,
            options.layouts,
            options.processes,
            max(1, options.rounds),
            max(1, options.steps_per_round),
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json_text(result) if options.json else table(result))
    return 0


if __name__ == "__main__":
    run_program(main)
