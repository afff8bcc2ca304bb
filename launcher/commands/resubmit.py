"""Submit a run's batch script again: it goes on from its last checkpoint.

Of a sweep, the runs that are not complete are trained, and the report is made again.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from launcher.program import copy_program
from launcher.record import Record
from launcher.scheduler import scheduler
from launcher.submission import now, refuse_active
from launcher.sweep import submit_array
from pretrain.errors import UserError
from pretrain.paths import path_argument

HELP = "go on with a run that has ended before it was complete"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("run", type=path_argument, metavar="RUN", help="folder of the run")
    parser.add_argument(
        "options", nargs="*", metavar="OPTION",
        help="of sbatch, after --: launcher resubmit RUN -- --exclude=n3 --time=48:00:00",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Submit again. Returns the exit code."""
    record, cluster = Record(options.run), scheduler()
    submission = record.submission()
    if submission is None:
        raise UserError(
            f"{options.run} was not submitted by this program; use launcher submit, or sbatch as "
            "before"
        )
    refuse_active(record, cluster)
    if submission.runs:
        runs = [Path(run) for run in submission.runs]
        copy_program(record.folder)  # with what was mended since
        complete = [Record(run).complete for run in runs]
        submit_array(record, cluster, runs, complete, options.options)
        return 0
    if record.complete:
        raise UserError(f"{options.run} is complete; nothing is left to train")
    if "_" in submission.job:
        raise UserError(
            f"{options.run} is a run of a sweep; resubmit {options.run.parent}, which trains the "
            "runs that are not complete"
        )
    copy_program(record.folder)  # with what was mended since
    script = Path(submission.script)
    job = cluster.submit(script, options=options.options)
    output = cluster.output(script, job)
    record.add(replace(submission, job=job, submitted=now(), output=str(output)))
    print(f"job {job}")
    print(f"goes on from step {record.step():,}")
    print(f"output {output}")
    return 0
