"""Check the plan, render the batch script into the run's folder, and submit it."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from launcher.checks import check, warnings
from launcher.program import copy_program, program_of
from launcher.record import Record, Submission
from launcher.scheduler import Scheduler, TrainingJob, scheduler
from launcher.settings import Settings, cluster_file, resolve
from launcher.submission import now, refuse_active, write
from launcher.sweep import Sweep
from pretrain.config import Config, load_config, parse_arguments
from pretrain.run_files import CONFIG

HELP = "check the plan, render the batch script, submit it"
FROM_FILE_ONLY = ("setup", "environment")
LISTS = ("mounts",)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options besides the fields of the configuration."""
    add = parser.add_argument
    for name, field in Settings.model_fields.items():
        if name in FROM_FILE_ONLY:
            continue
        option = f"--{name.replace('_', '-')}"
        if name == "sbatch":
            add(
                option,
                action="append",
                default=None,
                metavar="--OPTION=VALUE",
                help="one more option of sbatch, as in --sbatch=--exclude=n3; may be repeated",
            )
        else:
            text = (field.description or "").replace("\n", " ").replace("%", "%%")
            comma = "; separated by commas" if name in LISTS else ""
            add(option, default=None, metavar=name.upper(), help=text.rstrip(".") + comma)
    add("--cluster", default=None, help="file of defaults, by name; that of SLURM's ClusterName "
        "if there is one")  # fmt: skip
    add("--array", default=None, metavar="SEEDS", help="a sweep: one run per strategy and seed, "
        "then the comparison report")  # fmt: skip
    add("--strategies", default=None, help="strategies of a sweep, as of tools.compare_strategies; "
        "selection.strategy if not given")  # fmt: skip
    add("--at-once", type=int, default=None, help="runs of a sweep that SLURM starts at a time")
    add("--dry-run", action="store_true", help="show the script; write and submit nothing")


def run(arguments: Sequence[str]) -> int:
    """Submit what the command line asks for. Returns the exit code."""
    config, options = parse_arguments(arguments, "python -m launcher submit", add_options)
    cluster = scheduler()
    settings = _settings(options, cluster)
    plan = check(config, settings)
    for line in warnings(config, settings):
        print(f"warning: {line}", file=sys.stderr)
    if options.array is not None or options.strategies is not None:
        sweep = Sweep.of(
            config,
            cluster,
            settings,
            options.strategies,
            options.array,
            options.at_once,
            options.dry_run,
        )
        return sweep.show(plan) if options.dry_run else sweep.submit()
    record = Record(config.run.directory)
    job = TrainingJob(
        name=f"mifirst-{config.run.directory.name}",
        folder=record.folder,
        program=program_of(record.folder, options.dry_run),
        config=str(record.folder / CONFIG),
        runs=(config.run.directory,),
    )
    text = cluster.training_script(job, settings)
    if options.dry_run:
        print("\n".join(f"# {line}" for line in plan))
        print(text, end="")
        return 0
    return _submit(config, record, cluster, text)


def _settings(options: argparse.Namespace, cluster: Scheduler) -> Settings:
    given: dict[str, Any] = {
        name: value
        for name in Settings.model_fields
        if (value := getattr(options, name, None)) is not None
    }
    for name in LISTS:
        if name in given:
            given[name] = [part for part in given[name].split(",") if part]
    here = cluster.cluster() if options.cluster is None else None
    return resolve(cluster_file(options.cluster, here), given)


def _submit(config: Config, record: Record, cluster: Scheduler, text: str) -> int:
    from pretrain.training.run_directory import RunDirectory

    refuse_active(record, cluster)
    cluster.try_out(text)
    directory = RunDirectory(config.run.directory)
    with directory.locked():
        directory.prepare(config)
        directory.write_config(config)
    started = config.model_dump(mode="json")
    # What is to be lost is lost by now: a restart must not lose what this job has saved.
    started["run"]["overwrite"] = False
    if config.checkpoint.resume == "never":
        started["checkpoint"]["resume"] = "auto"
    write(record.folder / CONFIG, load_config(None, started).to_yaml())
    copy_program(record.folder)
    batch = record.folder / "job.sbatch"
    write(batch, text)
    job = cluster.submit(batch)
    output = cluster.output(batch, job)
    record.add(Submission(job, now(), str(batch.absolute()), str(output)))
    print(f"job {job}")
    print(f"output {output}")
    print(f"python -m launcher status {shlex.quote(str(record.directory))}")
    return 0
