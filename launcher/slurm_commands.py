"""SLURM's own commands, asked and read."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pretrain.errors import UserError

ACTIVE = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD",
          "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT")  # fmt: skip
"""States of a job that has not ended."""


@dataclass(frozen=True)
class Job:
    """What SLURM says of a job.

    Attributes:
        number: as SLURM numbers it; `12_3` for task 3 of array 12.
        state: RUNNING, PENDING, COMPLETED ...
        reason: why it waits or ended; empty where SLURM gives none.
        nodes: list of nodes; empty before it starts.
        elapsed, limit: wall time used and allowed, as SLURM writes them.
    """

    number: str
    state: str
    reason: str = ""
    nodes: str = ""
    elapsed: str = ""
    limit: str = ""

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ACTIVE


def here() -> bool:
    """Whether SLURM's commands are installed."""
    return shutil.which("sbatch") is not None


def _call(*command: str, script: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of SLURM.

    Raises:
        UserError: it is not installed.
    """
    try:
        return subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UserError(
            f"{command[0]} is not on PATH; run this where SLURM's commands are, such as a login "
            "node (submit --dry-run needs none)"
        ) from error


def _insist(*command: str, script: str | None = None) -> str:
    done = _call(*command, script=script)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise UserError(f"{command[0]} refuses: " + "; ".join(lines or [f"code {done.returncode}"]))
    return done.stdout.strip()


def try_out(script: str) -> None:
    """Ask SLURM whether it would take a batch script, without submitting it.

    Raises:
        UserError: it would not; SLURM's words are in the message.
    """
    _insist("sbatch", "--test-only", script=script)


def submit(script: Path, options: Sequence[str] = ()) -> str:
    """Submit a batch script. Returns the job's number.

    Raises:
        UserError: SLURM refuses it; SLURM's words are in the message.
    """
    return _insist("sbatch", "--parsable", *options, str(script)).split(";")[0]


def cancel(number: str) -> None:
    """Cancel a job.

    Raises:
        UserError: SLURM refuses; SLURM's words are in the message.
    """
    _insist("scancel", number)


def cluster_name() -> str | None:
    """Name of this cluster; None where there is none."""
    if not here():
        return None
    for line in _call("scontrol", "show", "config").stdout.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "ClusterName":
            return value.strip()
    return None


def jobs(number: str) -> list[Job]:
    """A job, or the tasks of an array; empty where SLURM does not know it any more.

    The controller forgets a job minutes after its end; then accounting is asked, where it is kept.
    """
    text = _call("scontrol", "show", "job", "--oneliner", number).stdout
    return [_controlled(line) for line in text.splitlines() if line.strip()] or _accounted(number)


def _controlled(line: str) -> Job:
    fields = dict(word.split("=", 1) for word in line.split(" ") if "=" in word)
    number = fields["JobId"]
    if "ArrayTaskId" in fields:
        number = f"{fields['ArrayJobId']}_{fields['ArrayTaskId']}"

    def told(name: str) -> str:
        value = fields.get(name, "")
        return "" if value in ("None", "(null)") else value

    return Job(
        number, fields["JobState"], told("Reason"), told("NodeList"),
        told("RunTime"), told("TimeLimit"),
    )  # fmt: skip


def _accounted(number: str) -> list[Job]:
    columns = "JobID,State,Reason,NodeList,Elapsed,Timelimit"
    done = _call("sacct", "--jobs", number, "-X", "--noheader", "--parsable2", "-o", columns)
    found = []
    for line in done.stdout.splitlines() if done.returncode == 0 else []:
        name, state, reason, nodes, elapsed, limit = line.split("|")
        blank = {"None": "", "None assigned": ""}
        # "CANCELLED by 1000"
        found.append(Job(name, state.split()[0], blank.get(reason, reason),
                         blank.get(nodes, nodes), elapsed, limit))  # fmt: skip
    return found
