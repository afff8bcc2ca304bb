"""Train a configuration once per strategy and seed with the same budget, and compare.

    python -m tools.compare_strategies --config configs/smoke/multiplication.yaml \\
        --strategies ntp,max_mi,max_mi:estimator=pairwise,fixed:fixed=3-2-1-0 \\
        --seeds 0,1,2 --out runs/multiplication

A strategy may change fields of `selection`, each after a colon, and of `objective`
(`ntp,ntp:objective.name=top` compares objectives). `--orders all`, or a list such as
`--orders 0321,3210`, trains orders of the target's units one by one. Each run goes through the same
entry as a training job, `pretrain/main.py`, started by the deepspeed launcher where there are
several processes. Runs that are complete are not trained again, and one that was interrupted goes
on from its newest checkpoint (checkpoint.save_every), or from the start. Fields of the
configuration can be overridden as in training (`--training.steps 2000`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tqdm import tqdm

from pretrain.config import Config, parse_arguments
from pretrain.console import run_program
from pretrain.distributed.ranks import free_port, without_launcher
from pretrain.errors import ConfigError, UserError
from pretrain.files import json_lines
from pretrain.locks import locked
from pretrain.paths import path_argument
from pretrain.progress import progress_bar
from pretrain.run_files import METRICS, RANKS
from pretrain.training.fingerprints import FINGERPRINTS, NAMES
from tools.comparison.orders import parse_orders
from tools.comparison.origin import ROOT, commit, environment
from tools.comparison.runs import Run, load_run, plan, title
from tools.comparison.variants import Variant, parse_variants
from tools.report import Comparison, check, format_table


def launch(run: Run, processes: int, threads: int) -> None:
    """Train one run; its output goes to `log.txt` in its folder.

    Raises:
        UserError: the run failed; the end of its log is in the message.
    """
    import torch

    run.directory.mkdir(parents=True, exist_ok=True)
    file = run.directory / "requested.yaml"
    file.write_text(run.config.to_yaml(), encoding="utf-8")
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "deepspeed.launcher.runner", "--num_accelerators", str(processes)]
        command += ["--master_port", str(free_port())]
    command += [str(ROOT / "pretrain" / "main.py"), "--config", str(file)]
    environment = {**without_launcher(os.environ), "OMP_NUM_THREADS": str(threads)}
    if run.config.run.device == "cpu" or not torch.cuda.is_available():
        environment["DS_ACCELERATOR"] = "cpu"
    log = run.directory / "log.txt"
    with open(log, "a", encoding="utf-8") as output:
        code = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=ROOT
        ).returncode
    if code != 0 or run.result is None:
        end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise UserError(f"run {run.name} failed with exit code {code}; {log} ends with\n{end}")


def train_all(runs: Sequence[Run], processes: int, jobs: int) -> None:
    """Train what is not complete, `jobs` runs at a time, with one progress bar over all steps."""
    waiting = [run for run in runs if run.result is None]
    for run in runs:
        if run not in waiting:
            print(f"{run.name}: complete, not trained again")
    if not waiting:
        return
    for run in waiting:
        if run.was_complete and not run.config.run.overwrite:
            print(f"{run.name}: was complete, goes on to more steps; log.txt says what that does")
    cores = len(os.sched_getaffinity(0))
    threads = max(1, cores // (jobs * processes))
    total = sum(run.config.training.steps for run in waiting)
    steps = {run.name: run.saved_step for run in waiting}
    before = {run.name: written(run) for run in waiting}
    with (
        ThreadPoolExecutor(jobs) as pool,
        progress_bar(total, "training", start=sum(steps.values())) as bar,
    ):
        futures = [pool.submit(launch, run, processes, threads) for run in waiting]
        try:
            while not all(future.done() for future in futures):
                time.sleep(1.0)
                show(bar, waiting, steps, before)
                for future in futures:
                    if future.done():
                        future.result()
            for future in futures:
                future.result()
            show(bar, waiting, steps, before)
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def show(
    bar: tqdm, runs: Sequence[Run], steps: dict[str, int], before: dict[str, dict[str, int]]
) -> None:
    """Move the bar to the sum of all steps; name what runs now, with its loss.

    Args:
        bar: never goes backwards.
        runs: that are trained.
        steps: of each run as far as known, which is brought up to date; at first those of its
            newest checkpoint.
        before: what :func:`written` said of each run before it was started. What an interrupted run
            wrote beyond its checkpoint is trained again, and does not count.
    """
    text = ""
    for run in runs:
        now = written(run)
        fresh = [name for name in now if now[name] != before[run.name].get(name)]
        if RANKS in fresh:
            steps[run.name] = max(steps[run.name], _beaten(run))
        lines = list(json_lines(run.directory / METRICS)) if METRICS in fresh else []
        if lines:
            steps[run.name] = max(steps[run.name], lines[-1]["step"])
            if lines[-1]["step"] < run.config.training.steps:
                loss = lines[-1]["loss"]  # null where it is not finite
                text = f"{run.name} loss={math.nan if loss is None else loss:.3f}"
    bar.set_postfix_str(text, refresh=False)
    bar.update(max(0, sum(steps.values()) - bar.n))


def written(run: Run) -> dict[str, int]:
    """When each file that tells of a run's steps was written last, in nanoseconds."""
    files = {name: run.directory / name for name in (METRICS, RANKS)}
    return {name: path.stat().st_mtime_ns for name, path in files.items() if path.exists()}


def _beaten(run: Run) -> int:
    """Steps that a run has done, as its ranks said a second ago."""
    try:
        beats = json.loads((run.directory / RANKS).read_text(encoding="utf-8"))
        return max(int(rank["step"]) for rank in beats["ranks"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def split_seeds(text: str) -> list[int]:
    """`0,1,2` as a list.

    Raises:
        ConfigError: a seed is no whole number from 0 on, or given twice.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts) or len(set(parts)) != len(parts):
        raise ConfigError(f"--seeds {text}: expected whole numbers, each once, such as 0,1,2")
    return [int(part) for part in parts]


def variants_of(strategies: str | None, orders: str | None, config: Config) -> list[Variant]:
    """What is to be trained, strategies before orders.

    Raises:
        ConfigError, UserError: see :func:`parse_variants` and :func:`parse_orders`.
    """
    if strategies is None and orders is None:
        strategies = "ntp,max_mi"
    variants = [] if strategies is None else parse_variants(strategies)
    return variants + ([] if orders is None else parse_orders(orders, config))


def default_processes(config: Config) -> int:
    """One process per GPU copy of the model; on a CPU two data-parallel copies."""
    import torch

    cuda = torch.cuda.is_available() and config.run.device != "cpu"
    return config.parallel.model_parallel * (1 if cuda else 2)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the comparison."""
    parser.add_argument(
        "--strategies",
        help="comma-separated strategies; one may change fields of selection, as in "
        "max_mi:estimator=pairwise:tie_bits=0 or fixed:fixed=3-2-1-0, and of objective, as in "
        "ntp:objective.name=top; ntp,max_mi if neither they nor --orders are given",
    )
    parser.add_argument(
        "--orders",
        help="orders of the target's units, each a strategy of its own: all, or a comma-separated "
        "list such as 0321,3210 (units are numbered in natural order; 0-10-2-... of more than 10)",
    )
    parser.add_argument("--seeds", default="0", help="comma-separated seeds")
    parser.add_argument("--out", type=path_argument, required=True, help="folder of the comparison")
    parser.add_argument("--processes", type=int, help="processes of each run")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument(
        "--report-only", action="store_true", help="train nothing; report the runs that are there"
    )


def complete(runs: Sequence[Run]) -> list[Run]:
    """The runs that can be reported.

    Raises:
        UserError: there is none.
    """
    found = [run for run in runs if run.result is not None]
    if not found:
        raise UserError(
            f"--report-only: none of the {len(runs)} runs below {runs[0].directory.parent} is "
            "complete; train them without --report-only"
        )
    return found


def check_same_data(runs: Sequence[Run]) -> None:
    """Refuse to compare runs that were trained or scored on different data.

    Raises:
        UserError: names two of them, and what differs.
    """
    seen: dict[str, tuple[str, Run]] = {}
    for run in runs:
        for name, value in ((run.result or {}).get(FINGERPRINTS) or {}).items():
            before, first = seen.setdefault(name, (value, run))
            if before != value:
                raise UserError(
                    f"{first.directory} and {run.directory} are of different data: {NAMES[name]} "
                    f"is {before[:12]} there and {value[:12]} here; choose another --out, or "
                    "remove the older folder"
                )


def compare(config: Config, runs: Sequence[Run], arguments: Sequence[str]) -> Comparison:
    """All that the report is made of, from the runs that are complete.

    Raises:
        UserError: no run is complete, or their figures cannot be compared.
    """
    done = complete(runs)
    check_same_data(done)
    results = [load_run(run) for run in done]
    first = done[0].result
    assert first is not None
    measures: dict[str, dict[str, Any]] = {}
    for run in done:
        measures |= (run.result or {}).get("measures", {})
    comparison = Comparison(
        title=title(config),
        task=config.data.task,
        presentation=config.data.presentation(),
        measures=measures,
        metric_name=first["headline"],
        higher_is_better=first["higher_is_better"],
        runs=tuple(results),
        missing=tuple(run.name for run in runs if run not in done),
        config_yaml=config.to_yaml(),
        commit=commit(),
        environment=environment() | {"layout": first["layout"]},
        command=shlex.join(["python", "-m", "tools.compare_strategies", *arguments]),
    )
    try:
        check(comparison)
    except ValueError as error:
        raise UserError(
            f"{done[0].directory.parent}: {error}; leave that strategy or seed out of --strategies "
            "or --seeds, or remove its folder to train it again"
        ) from error
    return comparison


def main(argv: Sequence[str] | None = None) -> int:
    """Train, compare, report. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        config, options = parse_arguments(arguments, "tools.compare_strategies", add_options)
        variants = variants_of(options.strategies, options.orders, config)
        seeds = split_seeds(options.seeds)
        processes = options.processes or default_processes(config)
        config.check_layout(processes)
        runs = plan(config, variants, seeds, options.out)
        started = time.perf_counter()
        if not options.report_only:
            with locked(
                options.out / "lock", f"--out {options.out} is filled by another comparison,",
                "wait for it, or name another --out",
            ):  # fmt: skip
                train_all(runs, processes, max(1, options.jobs))
        from tools.report.files import write_report

        summary = write_report(compare(config, runs, arguments), options.out)
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
    run_program(main)
