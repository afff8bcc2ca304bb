"""Show what a run's job has printed: SLURM's messages, the check of the nodes, the first rank."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from launcher.record import Record
from pretrain.errors import UserError
from pretrain.paths import path_argument

HELP = "show what a run's job has printed"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("run", type=path_argument, metavar="RUN", help="folder of the run")
    parser.add_argument("-f", "--follow", action="store_true", help="go on showing what comes")
    parser.add_argument("--rank", type=int, help="that rank's log of the last attempt instead")


def run(options: argparse.Namespace) -> int:
    """Show, through `tail`. Returns the exit code."""
    path = _file(Record(options.run), options.rank)
    if not path.exists() and not options.follow:
        raise UserError(f"{path} is not there yet: the job has not started; -f waits for it")
    sys.stdout.flush()
    command = ["tail", "-n", "+1", *(["-F"] if options.follow else []), str(path)]
    os.execvp("tail", command)


def _file(record: Record, rank: int | None) -> Path:
    submission, logs = record.submission(), record.logs()
    if submission and submission.runs:
        raise UserError(
            f"{record.directory} is a sweep; name one of its runs: {', '.join(submission.runs[:3])}"
            + (", ..." if len(submission.runs) > 3 else "")
        )
    if rank is None and submission is not None:
        return Path(submission.output)
    if logs is None:
        raise UserError(f"{record.directory} has no logs: none of its jobs has started")
    path = logs / f"rank-{rank or 0}.log"
    if rank and not path.exists():
        raise UserError(
            f"{path} is not there; ranks of that attempt: {len(list(logs.glob('rank-*')))}"
        )
    return path
