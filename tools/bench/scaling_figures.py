"""What grows with the number of ranks: the tables of docs/scaling.md, computed from formulas.

    python -m tools.bench.scaling_figures [--ranks 8,64,256,1024] [--json]
                                          [--config FILE [--training.global_batch 2048 ...]]

Nothing is measured and nothing is started. Each configuration (those of 7, 70 and 175 billion
parameters if none is given) keeps its tensor and pipeline sizes and its batch; data parallelism
takes the ranks. Numbers of ranks that its layout refuses, or on which a rank needs more than 72 of
80 GB, are left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pretrain import run_files
from pretrain.config import Config, load_config, parse_arguments
from pretrain.console import run_program
from pretrain.errors import ConfigError, UserError
from pretrain.files import json_text
from pretrain.planning import Machine, Plan, make_plan
from pretrain.planning.step_time import bubble_fraction
from pretrain.selection.table.traffic import Work, query_bytes
from pretrain.training.health.liveness import Beat

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NAMES = ("llama_7b", "llama_70b", "gpt_175b")
RANKS = (8, 64, 256, 512, 1024)
SENTENCE = 20
"""Tokens of a sentence, for the selector's lengths of documents."""
CHECKPOINT_BYTES = 12
"""Of a parameter: the fp32 weight and AdamW's two moments."""
MEMORY = 72e9
"""Of 80 GB, less a tenth for CUDA, NCCL and fragmentation, as tools.plan has it."""
BEAT = Beat(100_000, 1_000, "node-0128", 1_000_000, 7, 100_000, "backward", 10_000_000, 0.123)
ROW = {"seconds_still": 0.1, "seconds_silent": 0.1}
"""What ranks.json says of a rank besides its beat."""


@dataclass(frozen=True)
class Job:
    """What any job of so many ranks costs besides training.

    Attributes:
        interval: seconds between two beats of a rank.
        requests: to the store, per second: each rank sets a key, checks one and gets one.
        store_bytes: beats that the store takes and hands out, per second.
        ranks_json: bytes of ranks.json, written each interval.
        checkpoint_files: of a complete checkpoint.
        checkpoint_creates: files made while it is written: each rank's, and what it says of it.
        resume_opens: files that all ranks together open to read it: each rank opens all.
    """

    ranks: int
    interval: float
    requests: float
    store_bytes: float
    ranks_json: int
    checkpoint_files: int
    checkpoint_creates: int
    resume_opens: int


@dataclass(frozen=True)
class Run:
    """What a configuration costs on so many ranks; bytes of one rank and step if nothing else is
    said.

    Attributes:
        layout: in words.
        tensor, pipeline, data: sent within each group (data: gradients and weights).
        selector: sent by a rank that reads, beside the step.
        bubble: share of computing and waiting that is waiting.
        step_seconds, mfu: estimated for the planner's default machine.
        checkpoint: bytes in all.
        checkpoint_rank: bytes of the rank that writes most.
    """

    name: str
    ranks: int
    layout: str
    data_parallel: int
    tensor: int
    pipeline: int
    data: int
    selector: int
    bubble: float
    step_seconds: float
    mfu: float
    checkpoint: int
    checkpoint_rank: int


def job_of(ranks: int) -> Job:
    """Figures that follow from the number of ranks alone."""
    from pretrain.training.health.heartbeat import STAGGERED_RANKS

    interval = max(1.0, ranks / STAGGERED_RANKS)
    beat = len(BEAT.to_json())
    # Every rank says one beat and hears the first rank's; the first hears all.
    return Job(
        ranks,
        interval,
        3 * ranks / interval,
        3 * ranks * beat / interval,
        ranks * (beat + len(json_text(ROW))),
        ranks + 1,
        2 * ranks + 1,
        ranks * ranks,
    )


def run_of(name: str, config: Config, ranks: int) -> Run:
    """Figures of a configuration.

    Raises:
        ConfigError: its layout does not fit the number of ranks, or a rank's memory.
    """
    plan = make_plan(config, ranks, machine=Machine())
    if plan.largest.peak > MEMORY:
        raise ConfigError(f"{name} on {ranks} ranks needs {decimal(plan.largest.peak)} on a rank")
    layout, traffic, time = plan.layout, plan.traffic, plan.time
    assert time is not None
    tokens = plan.tokens // layout.data_parallel
    work = Work(tokens, tokens // SENTENCE, layout.vocabulary, layout.data_parallel)
    return Run(
        name,
        ranks,
        layout.describe(),
        layout.data_parallel,
        traffic.tensor.sent,
        traffic.pipeline.sent + traffic.tied.sent,
        traffic.gradients.sent + traffic.weights.sent,
        query_bytes(work),
        bubble_fraction(layout),
        time.total,
        time.mfu,
        CHECKPOINT_BYTES * plan.cost.parameters,
        _of_fullest_rank(plan),
    )


def _of_fullest_rank(plan: Plan) -> int:
    return CHECKPOINT_BYTES * -(-plan.largest.parameters // plan.layout.data_parallel)


def decimal(count: float) -> str:
    """Bytes in the largest decimal unit of which there is one, three digits."""
    for scale, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= scale:
            return f"{float(f'{count / scale:.3g}'):,g} {unit}"
    return f"{count:,.0f} B"


def job_table(jobs: Sequence[Job]) -> list[str]:
    """A table of Markdown."""
    rows = [
        (
            f"{job.ranks:,}", f"{job.interval:g} s", f"{job.requests:,.0f}/s",
            f"{decimal(job.store_bytes)}/s", decimal(job.ranks_json),
            f"{job.checkpoint_files:,}", f"{job.checkpoint_creates:,}", f"{job.resume_opens:,}",
        )
        for job in jobs
    ]  # fmt: skip
    head = ("ranks", "beat every", "requests", "bytes", run_files.RANKS, "checkpoint", "files made",
            "files opened")  # fmt: skip
    return _table(head, rows)


def run_table(runs: Sequence[Run]) -> list[str]:
    """A table of Markdown."""
    rows = [
        (
            run.name, f"{run.ranks:,}", f"{run.data_parallel:,}", decimal(run.tensor),
            decimal(run.pipeline), decimal(run.data), decimal(run.selector),
            f"{100 * run.bubble:.1f} %", f"{run.step_seconds:.2f} s", f"{100 * run.mfu:.1f} %",
            decimal(run.checkpoint), decimal(run.checkpoint_rank),
        )
        for run in runs
    ]  # fmt: skip
    head = ("configuration", "ranks", "copies", "tensor", "pipeline", "data", "selector", "bubble",
            "step", "MFU", "checkpoint", "of a rank")  # fmt: skip
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options besides the fields of the configuration."""
    default = ",".join(map(str, RANKS))
    parser.add_argument("--ranks", default=default, help=f"separated by commas ({default})")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def figures(configs: dict[str, Config], ranks: Sequence[int]) -> tuple[list[Job], list[Run]]:
    """Figures of all configurations on all numbers of ranks that their layouts allow."""
    runs = []
    for name, config in configs.items():
        for count in ranks:
            try:
                runs.append(run_of(name, config, count))
            except ConfigError:
                continue
    return [job_of(count) for count in ranks], runs


def _ranks(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.isdecimal() and int(word) for word in words):
        raise ConfigError(f"--ranks {text}: expected whole numbers from 1, such as 8,64,1024")
    return [int(word) for word in words]


def main(argv: Sequence[str] | None = None) -> int:
    """Compute and print. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        config, options = parse_arguments(arguments, "tools.bench.scaling_figures", add_options)
        own = options.config is not None
        configs = (
            {options.config.stem: config}
            if own
            else {name: load_config(CONFIGS / f"{name}.yaml") for name in NAMES}
        )
        jobs, runs = figures(configs, _ranks(options.ranks))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    values: dict[str, Any] = {
        "jobs": [asdict(job) for job in jobs],
        "runs": [asdict(run) for run in runs],
    }
    lines = [*job_table(jobs), "", *run_table(runs)]
    print(json_text(values) if options.json else "\n".join(lines))
    return 0


if __name__ == "__main__":
    run_program(main)
