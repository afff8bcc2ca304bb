"""Cancel a run's job; it saves what it can in the time that its scheduler leaves it."""

from __future__ import annotations

import argparse
import shlex

from launcher.record import Record
from launcher.scheduler import scheduler
from pretrain.errors import UserError
from pretrain.paths import path_argument

HELP = "cancel a run's job"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("run", type=path_argument, metavar="RUN", help="folder of the run")


def run(options: argparse.Namespace) -> int:
    """Cancel. Returns the exit code."""
    record, cluster = Record(options.run), scheduler()
    submission = record.submission()
    numbers = [record.job()]
    if submission and submission.report and submission.job in numbers:
        numbers.append(submission.report)
    active = [number for number in numbers if any(job.active for job in cluster.jobs(number))]
    if not active:
        raise UserError(f"{options.run}: job {numbers[0]} has ended already")
    for number in active:
        cluster.cancel(number)
        print(f"cancelled job {number}")
    again = f"python -m launcher resubmit {shlex.quote(str(options.run))}"
    print(f"{again} goes on from its last checkpoint")
    return 0
