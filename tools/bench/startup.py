"""How long programs take to start, beside `python -c "import torch"` and an older commit.

    python -m tools.bench.startup [--base COMMIT] [--rounds 5] [--only NAME,...] [--json FILE]
    python -m tools.bench.startup --imports tools.plan

All take turns in one run, each as a process of its own with one thread, so that what counts are the
ratios: of seconds from start to exit, of CPU seconds, which other programs on the machine disturb
less, and of the most memory that a program holds, in MiB. `--base` checks the older commit out into
a temporary folder and starts the same programs there. `--imports MODULE` lists what importing a
module costs instead.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pretrain.console import run_program
from pretrain.errors import UserError
from pretrain.files import json_text, write_text
from pretrain.paths import path_argument
from tools.bench.rounds import Route, extremes, median, ratios, take_turns
from tools.comparison.commit import ROOT

TORCH = "import torch"
SMOKE = "configs/smoke/multiplication.yaml"
ONE_STEP = (
    "pretrain/main.py", "--config", SMOKE, "--training.steps", "1",
    "--training.evaluate_every", "0", "--training.evaluation_examples", "64",
    "--parallel.zero_stage", "0", "--run.progress", "false", "--run.overwrite", "true",
)  # fmt: skip
PROGRAMS: dict[str, tuple[str, ...]] = {
    TORCH: ("-c", "import torch"),
    "one step": ONE_STEP,
    "plan": ("-m", "tools.plan", "--config", "configs/llama_7b.yaml", "--gpus", "32"),
    "inspect_selection": ("-m", "tools.inspect_selection", "--config", SMOKE),
    "main --help": ("pretrain/main.py", "--help"),
}
HELPED = (
    "compare_strategies", "export_hf", "fit_selection", "generate", "import_hf",
    "inspect_checkpoint", "inspect_data", "inspect_selection", "plan", "preprocess_data",
    "show_batch", "train_tokenizer",
)  # fmt: skip
PROGRAMS |= {f"{tool} --help": ("-m", f"tools.{tool}", "--help") for tool in HELPED}
KINDS = ("seconds", "cpu", "mib")
LISTED = 25
"""Imports that are shown."""


@dataclass(frozen=True)
class Cost:
    """What a program took from start to exit.

    Attributes:
        seconds: by the clock.
        cpu: seconds of CPU, its children's that it waited for with them.
        mib: most memory that it held.
    """

    seconds: float
    cpu: float
    mib: float


Costs = dict[str, list[Cost]]
"""Of each program, in each round."""


def start(program: Sequence[str], root: Path, runs: Path) -> Cost:
    """Run a program of the checkout in `root` to its end.

    Raises:
        UserError: it fails; the end of what it said is in the message.
    """
    command = [sys.executable, *program]
    if "--run.overwrite" in program:
        command += ["--run.directory", str(runs)]
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(root),
    }  # fmt: skip
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=root, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            said = "\n".join(output.read().decode(errors="replace").splitlines()[-5:])
            raise UserError(
                f"{' '.join(program)} in {root} ends with {process.returncode}:\n{said}"
            )
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A folder with the files of a commit, for as long as it is needed.

    Raises:
        UserError: there is no such commit, or git is missing.
    """
    folder = Path(tempfile.mkdtemp(prefix="base-"))
    try:
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=True
        )
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
        yield folder
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(
            f"--base {commit}: cannot be checked out with git archive: {error}"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(names: Sequence[str], base: str | None, rounds: int) -> Costs:
    """What each program takes, in turns, here and at `base`."""
    costs: Costs = {}

    def route(name: str, program: Sequence[str], root: Path, runs: Path) -> float:
        cost = start(program, root, runs)
        costs.setdefault(name, []).append(cost)
        return cost.seconds

    with ExitStack() as stack:
        runs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        routes: dict[str, Route] = {}
        roots = {"": ROOT}
        if base is not None:
            roots[f" at {base}"] = stack.enter_context(checked_out(base))
        for name in names:
            for suffix, root in roots.items():
                if name == TORCH and suffix:
                    continue
                routes[name + suffix] = partial(route, name + suffix, PROGRAMS[name], root, runs)
        for once in routes.values():
            once()  # files are read from the disk, and compiled, once
        costs.clear()
        take_turns(routes, rounds, {})
    return costs


def summary(costs: Costs, base: str | None) -> dict[str, Any]:
    """Medians, and ratios to importing torch and to the older commit, round by round."""
    found = {}
    kinds = {kind: {n: [getattr(c, kind) for c in each] for n, each in costs.items()}
             for kind in KINDS}  # fmt: skip
    for name in costs:
        if base is not None and name.endswith(f" at {base}"):
            continue
        entry: dict[str, Any] = {}
        for kind, values in kinds.items():
            entry[kind] = median(values[name])
            for key, other in ((TORCH, TORCH), ("base", f"{name} at {base}")):
                if other in values and other != name:
                    each = ratios(values, name, other)
                    entry[f"{kind} over {key}"] = median(each)
                    entry[f"{kind} over {key}, rounds"] = extremes(each)
        found[name] = entry
    return found


def table(found: Mapping[str, Any]) -> str:
    """The same for people: each kind of cost, over that of importing torch, and over the base's."""
    heads = "".join(f" {kind:>8} {'/ torch':>8} {'/ base':>7}" for kind in KINDS)
    lines = [f"{'':28}{heads}"]
    for name, entry in found.items():
        line = f"{name:28}"
        for kind in KINDS:
            over = [
                f"{entry[key]:.2f}" if key in entry else "-"
                for key in (f"{kind} over {TORCH}", f"{kind} over base")
            ]
            line += f" {entry[kind]:8.2f} {over[0]:>8} {over[1]:>7}"
        lines.append(line)
    return "\n".join(lines)


def imports(module: str) -> str:
    """What importing a module costs, the dearest first, with what each imports itself included."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode != 0:
        raise UserError(f"--imports {module}: {done.stderr.splitlines()[-1]}")
    rows = []
    for line in done.stderr.splitlines():
        own, total, name = [*line.removeprefix("import time:").split("|"), "", ""][:3]
        if own.strip().isdigit() and total.strip().isdigit():
            rows.append((int(total) / 1e6, int(own) / 1e6, name.strip()))
    shown = sorted(rows, reverse=True)[:LISTED]
    return "\n".join(
        ["   total     own  seconds"]
        + [f"{total:8.2f} {own:7.3f}  {name}" for total, own, name in shown]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools.bench.startup",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base", help="an older commit, measured in turns")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help=f"comma-separated names: {', '.join(PROGRAMS)}")
    parser.add_argument("--imports", metavar="MODULE", help="list what importing it costs")
    parser.add_argument("--json", type=path_argument, help="write the figures to this file")
    options = parser.parse_args(argv)
    try:
        if options.imports:
            print(imports(options.imports))
            return 0
        names = list(PROGRAMS) if options.only is None else options.only.split(",")
        if unknown := [name for name in names if name not in PROGRAMS]:
            raise UserError(f"--only {unknown[0]}: unknown; use {', '.join(PROGRAMS)}")
        names = [TORCH, *(name for name in names if name != TORCH)]
        costs = measure(names, options.base, options.rounds)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = summary(costs, options.base)
    print(table(found))
    if options.json:
        spread = {
            name: statistics.pstdev(cost.seconds for cost in each) for name, each in costs.items()
        }
        values = {"programs": found, "spread": spread}
        write_text(options.json, json_text(values, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    run_program(main)
