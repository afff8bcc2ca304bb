"""Train a configuration once per strategy and seed with the same budget, and compare.

    python -m tools.compare_strategies --config configs/smoke/multiplication.yaml \\
        --strategies ntp,max_mi,reverse --seeds 0,1,2 --out runs/multiplication

Each run goes through the same entry as a training job, `pretrain/main.py`, started by the deepspeed
launcher where there are several processes. Runs that are complete are not trained again, so an
interrupted comparison goes on where it stopped. Fields of the configuration can be overridden as in
training (`--training.steps 2000`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch
import yaml
from tqdm import tqdm

from pretrain.config import Config, Strategy, load_config, parse_arguments
from pretrain.errors import ConfigError, UserError
from pretrain.ranks import free_port
from pretrain.topology import device_name
from pretrain.training.progress import progress_bar
from pretrain.training.run_directory import CONFIG, SELECTION, RunDirectory
from tools.report import Comparison, RunResult, format_table, write_report

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Run:
    """One strategy with one seed."""

    strategy: str
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """Folder below the comparison's."""
        return f"{self.strategy}-seed{self.seed}"

    @property
    def directory(self) -> Path:
        """Folder of the run."""
        return self.config.run.directory

    @property
    def result(self) -> dict[str, Any] | None:
        """The result of a complete run of exactly this configuration; None otherwise.

        Raises:
            ConfigError: the folder holds a run of another configuration.
        """
        path = self.directory / CONFIG
        if not path.exists():
            return None
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        wanted = yaml.safe_load(self.config.to_yaml())
        different = [
            f"{section}.{field} is {found.get(section, {}).get(field)!r} there, {value!r} here"
            for section, fields in wanted.items()
            if section != "run"
            for field, value in fields.items()
            if found.get(section, {}).get(field) != value
        ]
        if different:
            raise ConfigError(
                f"{self.directory} holds a run of another configuration: {different[0]}; choose "
                "another --out, or remove that folder"
            )
        return RunDirectory(self.directory).result()


def plan(config: Config, strategies: Sequence[str], seeds: Sequence[int], out: Path) -> list[Run]:
    """Every run of the comparison; they differ in strategy, seed and folder only."""
    base = config.model_dump()
    runs = []
    for seed in seeds:
        for strategy in strategies:
            changed = {
                **base,
                "selection": {**base["selection"], "strategy": strategy},
                "training": {**base["training"], "seed": seed},
                "run": {
                    **base["run"],
                    "directory": out / f"{strategy}-seed{seed}",
                    "progress": False,
                    "overwrite": True,
                },
            }
            runs.append(Run(strategy, seed, load_config(None, changed)))
    return runs


def launch(run: Run, processes: int, threads: int) -> None:
    """Train one run; its output goes to `log.txt` in its folder.

    Raises:
        UserError: the run failed; the end of its log is in the message.
    """
    run.directory.mkdir(parents=True, exist_ok=True)
    file = run.directory / "requested.yaml"
    file.write_text(run.config.to_yaml(), encoding="utf-8")
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "deepspeed.launcher.runner", "--num_accelerators", str(processes)]
        command += ["--master_port", str(free_port())]
    command += [str(ROOT / "pretrain" / "main.py"), "--config", str(file)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    if run.config.run.device == "cpu" or not torch.cuda.is_available():
        environment["DS_ACCELERATOR"] = "cpu"
    log = run.directory / "log.txt"
    with open(log, "w", encoding="utf-8") as output:
        code = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=ROOT
        ).returncode
    if code != 0 or run.result is None:
        end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise UserError(f"run {run.name} failed with exit code {code}; {log} ends with\n{end}")


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a JSON-lines file; a line that is still being written is left out."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)


def train_all(runs: Sequence[Run], processes: int, jobs: int) -> None:
    """Train what is not complete, `jobs` runs at a time, with one progress bar over all steps."""
    waiting = [run for run in runs if run.result is None]
    for run in runs:
        if run not in waiting:
            print(f"{run.name}: complete, not trained again")
    if not waiting:
        return
    cores = len(os.sched_getaffinity(0))
    threads = max(1, cores // (jobs * processes))
    total = sum(run.config.training.steps for run in waiting)
    for run in waiting:
        (run.directory / "metrics.jsonl").unlink(missing_ok=True)
    with (
        ThreadPoolExecutor(jobs) as pool,
        progress_bar(total, "training") as bar,
    ):
        futures = [pool.submit(launch, run, processes, threads) for run in waiting]
        try:
            while not all(future.done() for future in futures):
                time.sleep(1.0)
                show(bar, waiting)
                for future in futures:
                    if future.done():
                        future.result()
            for future in futures:
                future.result()
            show(bar, waiting)
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def show(bar: tqdm, runs: Sequence[Run]) -> None:
    """Move the bar to the sum of all steps; name what runs now, with its loss."""
    done, text = 0, ""
    for run in runs:
        lines = list(json_lines(run.directory / "metrics.jsonl"))
        if lines:
            done += lines[-1]["step"]
            if lines[-1]["step"] < run.config.training.steps:
                text = f"{run.name} loss={lines[-1]['loss']:.3f}"
    bar.set_postfix_str(text, refresh=False)
    bar.update(done - bar.n)


def load_run(run: Run) -> RunResult:
    """What a complete run left in its folder."""
    result = run.result
    assert result is not None
    selection = json.loads((run.directory / SELECTION).read_text(encoding="utf-8"))
    evaluations = list(json_lines(run.directory / "evaluation.jsonl"))
    bits = selection["bits"]
    return RunResult(
        strategy=run.strategy,
        seed=run.seed,
        order=tuple(selection["order"]),
        unit_names=tuple(selection["unit_names"]),
        bits=None if bits is None else tuple(bits),
        estimator=selection["estimator"],
        tokens=tuple(line["tokens"] for line in evaluations),
        metric=tuple(line["metrics"][line["headline"]] for line in evaluations),
        unit_accuracy=tuple(tuple(line["unit_accuracy"]) for line in evaluations),
        samples=tuple(evaluations[-1]["samples"]),
        train_seconds=result["train_seconds"],
        selection_seconds=selection["seconds"],
        model_flops=float(result["model_flops"]),
        parameters=result["parameters"],
    )


def commit() -> str:
    """Commit of the code, marked where the tree differs from it; `unknown` outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            " with changes" if git("status", "--porcelain", "-uno") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def environment() -> dict[str, str]:
    """Versions and hardware that figures depend on."""
    names = ("torch", "deepspeed", "megatron-core", "numpy")
    cuda = torch.cuda.is_available()
    return {
        "device": device_name(torch.device("cuda")) if cuda else f"CPU ({platform.machine()})",
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def split_names(text: str) -> list[str]:
    """`a,b` as a list.

    Raises:
        ConfigError: a strategy is unknown or named twice.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in get_args(Strategy):
            raise ConfigError(
                f"--strategies: {name} is unknown; use {', '.join(get_args(Strategy))}"
            )
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"--strategies {text}: name each strategy once")
    return names


def split_seeds(text: str) -> list[int]:
    """`0,1,2` as a list.

    Raises:
        ConfigError: a seed is no whole number from 0 on, or given twice.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts) or len(set(parts)) != len(parts):
        raise ConfigError(f"--seeds {text}: expected whole numbers, each once, such as 0,1,2")
    return [int(part) for part in parts]


def default_processes(config: Config) -> int:
    """One process per GPU copy of the model; on a CPU two data-parallel copies."""
    cuda = torch.cuda.is_available() and config.run.device != "cpu"
    return config.parallel.model_parallel * (1 if cuda else 2)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the comparison."""
    parser.add_argument("--strategies", default="ntp,max_mi", help="comma-separated strategies")
    parser.add_argument("--seeds", default="0", help="comma-separated seeds")
    parser.add_argument("--out", type=Path, required=True, help="folder of the comparison")
    parser.add_argument("--processes", type=int, help="processes of each run")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")


def main(argv: Sequence[str] | None = None) -> int:
    """Train, compare, report. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        config, options = parse_arguments(arguments, "tools.compare_strategies", add_options)
        strategies, seeds = split_names(options.strategies), split_seeds(options.seeds)
        processes = options.processes or default_processes(config)
        config.check_layout(processes)
        runs = plan(config, strategies, seeds, options.out)
        started = time.perf_counter()
        train_all(runs, processes, max(1, options.jobs))
        data = config.data
        comparison = Comparison(
            title=f"{data.digits}-digit {data.operation}, {config.training.steps:,} steps",
            metric_name="exact_match",
            runs=tuple(load_run(run) for run in runs),
            config_yaml=config.to_yaml(),
            commit=commit(),
            environment=environment() | {"processes": str(processes)},
            command=shlex.join(["python", "-m", "tools.compare_strategies", *arguments]),
        )
        summary = write_report(comparison, options.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(format_table(summary))
    print(
        f"\n{time.perf_counter() - started:.0f} s; comparison.json, comparison.png and "
        f"report.html are in {options.out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
