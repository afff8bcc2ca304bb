"""How long programs take to start, beside `python -c "import torch"` and an older commit.

    python -m tools.bench.startup [--base COMMIT] [--rounds 5] [--only NAME,...] [--json FILE]
    python -m tools.bench.startup --imports tools.plan

All take turns in one run, each as a process of its own with one thread, so that what counts is the
ratio. `--base` checks the older commit out into a temporary folder and starts the same programs
there. `--imports MODULE` lists what importing a module costs instead.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pretrain.console import run_program
from pretrain.errors import UserError
from pretrain.files import json_text, write_text
from pretrain.paths import path_argument
from tools.bench.rounds import Route, clocked, extremes, median, ratios, take_turns
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
LISTED = 25
"""Imports that are shown."""


def start(program: Sequence[str], root: Path, runs: Path) -> None:
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
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        said = "\n".join((done.stderr or done.stdout).splitlines()[-5:])
        raise UserError(f"{' '.join(program)} in {root} ends with {done.returncode}:\n{said}")


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


def measure(names: Sequence[str], base: str | None, rounds: int) -> dict[str, Any]:
    """Seconds of each program, in turns, here and at `base`."""
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
                program = PROGRAMS[name]
                routes[name + suffix] = clocked(partial(start, program, root, runs))
        for route in routes.values():
            route()  # files are read from the disk, and compiled, once
        return dict(take_turns(routes, rounds, {}))


def summary(seconds: Mapping[str, list[float]], base: str | None) -> dict[str, Any]:
    """Medians, and ratios to importing torch and to the older commit, round by round."""
    found = {}
    for name in seconds:
        if base is not None and name.endswith(f" at {base}"):
            continue
        entry: dict[str, Any] = {"seconds": median(seconds[name])}
        for key, other in ((TORCH, TORCH), ("base", f"{name} at {base}")):
            if other in seconds and other != name:
                each = ratios(dict(seconds), name, other)
                entry[f"over {key}"] = median(each)
                entry[f"over {key}, rounds"] = extremes(each)
        found[name] = entry
    return found


def table(found: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [f"{'':28} {'seconds':>8} {'/ import torch':>15} {'/ base':>8}"]
    for name, entry in found.items():
        columns = [
            f"{entry[key]:.2f}" if key in entry else "-" for key in (f"over {TORCH}", "over base")
        ]
        lines.append(f"{name:28} {entry['seconds']:8.2f} {columns[0]:>15} {columns[1]:>8}")
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
        seconds = measure(names, options.base, options.rounds)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = summary(seconds, options.base)
    print(table(found))
    if options.json:
        spread = {name: statistics.pstdev(values) for name, values in seconds.items()}
        values = {"programs": found, "spread": spread}
        write_text(options.json, json_text(values, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    run_program(main)
