"""What SLURM says of jobs."""

from __future__ import annotations

from launcher.scheduler import Job, Phase
from launcher.slurm.commands import call

RUNNING = ("RUNNING", "COMPLETING")
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "STOPPED", "RESIZING",
           "SIGNALING", "STAGE_OUT")  # fmt: skip
"""States of a job that has not ended."""


def cluster_name() -> str | None:
    """Name of this cluster; None where nobody says it."""
    for line in call("scontrol", "show", "config").stdout.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "ClusterName":
            return value.strip()
    return None


def jobs(number: str) -> list[Job]:
    """A job, or the tasks of an array; empty where SLURM does not know it any more.

    The controller forgets a job minutes after its end; then accounting is asked, where it is kept.
    """
    text = call("scontrol", "show", "job", "--oneliner", number).stdout
    return [_controlled(line) for line in text.splitlines() if line.strip()] or _accounted(number)


def _phase(state: str) -> Phase:
    if state in RUNNING:
        return "running"
    return "waiting" if state in WAITING else "ended"


def _controlled(line: str) -> Job:
    fields = dict(word.split("=", 1) for word in line.split(" ") if "=" in word)
    number = fields["JobId"]
    if "ArrayTaskId" in fields:
        number = f"{fields['ArrayJobId']}_{fields['ArrayTaskId']}"

    def told(name: str) -> str:
        value = fields.get(name, "")
        return "" if value in ("None", "(null)") else value

    return Job(
        number, fields["JobState"], _phase(fields["JobState"]), told("Reason"), told("NodeList"),
        told("RunTime"), told("TimeLimit"),
    )  # fmt: skip


def _accounted(number: str) -> list[Job]:
    columns = "JobID,State,Reason,NodeList,Elapsed,Timelimit"
    done = call("sacct", "--jobs", number, "-X", "--noheader", "--parsable2", "-o", columns)
    found = []
    for line in done.stdout.splitlines() if done.returncode == 0 else []:
        name, state, reason, nodes, elapsed, limit = line.split("|")
        state = state.split()[0]  # "CANCELLED by 1000"
        blank = {"None": "", "None assigned": ""}
        found.append(Job(name, state, _phase(state), blank.get(reason, reason),
                         blank.get(nodes, nodes), elapsed, limit))  # fmt: skip
    return found
