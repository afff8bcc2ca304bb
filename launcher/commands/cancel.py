"""Cancel a run's job; what SLURM's KillWait allows it to save is saved."""

from __future__ import annotations

import argparse
from pathlib import Path

from launcher import slurm_commands
from launcher.record import Record
from pretrain.errors import UserError

HELP = "cancel a run's job"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the run")


def run(options: argparse.Namespace) -> int:
    """Cancel. Returns the exit code."""
    record = Record(options.run)
    submission = record.submission()
    numbers = [record.job()]
    if submission and submission.report and submission.job in numbers:
        numbers.append(submission.report)
    active = [number for number in numbers if any(j.active for j in slurm_commands.jobs(number))]
    if not active:
        raise UserError(f"{options.run}: job {numbers[0]} has ended already")
    for number in active:
        slurm_commands.cancel(number)
        print(f"cancelled job {number}")
    print(f"python -m launcher resubmit {options.run} goes on from its last checkpoint")
    return 0
