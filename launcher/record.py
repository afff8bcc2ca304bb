"""What a run's folder says of its jobs: what was submitted, and how each attempt went.

RUN/slurm/submissions.jsonl    one line per submission, by `launcher submit` and `resubmit`
RUN/slurm/attempts.jsonl       one line when an attempt begins and when it ends, by job.sh
RUN/slurm/logs/JOB.RESTART/    rank-0.log ... of an attempt
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launcher.tails import tail
from pretrain.errors import UserError
from pretrain.files import json_lines, json_text
from pretrain.run_files import CHECKPOINTS, METRICS, RESULT
from pretrain.training.checkpoint.manifest import complete, saved_step


@dataclass(frozen=True)
class Submission:
    """A job that was submitted.

    Attributes:
        job: its number; `12_3` for a run that is task 3 of array 12.
        submitted: when, in ISO 8601.
        script: the batch script.
        output: file of the job's output.
        runs: folders of the runs of a sweep; empty for a single run.
        report: number of the job that reports a sweep.
        options: of sbatch, besides those in the script.
    """

    job: str
    submitted: str
    script: str
    output: str
    runs: tuple[str, ...] = ()
    report: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attempt:
    """One start of a job.

    Attributes:
        job, restart: which.
        began, ended: when, in ISO 8601; `ended` is empty while it runs or where nobody could say.
        nodes: where.
        first, last: step of the newest complete checkpoint at the beginning and at the end.
        verdict: complete, requeued, stopped, failed ...; empty as `ended`.
        why: what it was stopped by; may be empty.
    """

    job: str
    restart: int
    began: str
    nodes: str
    first: int
    ended: str = ""
    last: int = 0
    verdict: str = ""
    why: str = ""


@dataclass(frozen=True)
class Record:
    """What is kept of the jobs of the run in `directory`."""

    directory: Path

    @property
    def folder(self) -> Path:
        """Scripts, logs and records."""
        return self.directory / "slurm"

    @property
    def _submissions(self) -> Path:
        return self.folder / "submissions.jsonl"

    def add(self, submission: Submission) -> None:
        """Note a submission."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self._submissions, "a", encoding="utf-8") as file:
            file.write(json_text(asdict(submission)) + "\n")

    def submission(self) -> Submission | None:
        """The last one; None for a run that was not submitted by this program."""
        lines = list(json_lines(self._submissions))
        if not lines:
            return None
        values = lines[-1]
        for name in ("runs", "options"):
            values[name] = tuple(values[name])
        return Submission(**values)

    def attempts(self) -> list[Attempt]:
        """All of them, in order."""
        found: dict[tuple[str, int], Attempt] = {}
        for line in json_lines(self.folder / "attempts.jsonl"):
            key = line["job"], line["restart"]
            if line["event"] == "start":
                found[key] = Attempt(*key, line["time"], line["nodes"], line["step"])
            else:
                before = found.get(key) or Attempt(*key, line["time"], line["nodes"], line["step"])
                found[key] = Attempt(
                    *key, before.began, before.nodes, before.first,
                    line["time"], line["step"], line["verdict"], line["why"],
                )  # fmt: skip
        return list(found.values())

    def job(self) -> str:
        """Number of the run's last job.

        Raises:
            UserError: the folder knows of none.
        """
        submission, attempts = self.submission(), self.attempts()
        if submission and not (attempts and attempts[-1].began > submission.submitted):
            return submission.job
        if attempts:
            # A task of an array has a number of its own besides; both name it.
            return attempts[-1].job
        raise UserError(
            f"{self.directory} was not submitted: it has no {self.folder.name}/"
            f"{self._submissions.name}; give the run.directory of a run that was"
        )

    def logs(self) -> Path | None:
        """Folder of the ranks' logs of the last attempt; None before there is one."""
        attempts = self.attempts()
        if not attempts:
            return None
        return self.folder / "logs" / f"{attempts[-1].job}.{attempts[-1].restart}"

    @property
    def complete(self) -> bool:
        """Whether the run is."""
        return (self.directory / RESULT).exists()

    def metrics(self) -> dict[str, Any] | None:
        """The last line of metrics.jsonl."""
        return tail(self.directory / METRICS).last or None

    def checkpoint(self) -> Path | None:
        """Folder of the newest complete checkpoint."""
        return next(complete(self.directory / CHECKPOINTS), None)

    def step(self) -> int:
        """Steps of the newest complete checkpoint; 0 without any."""
        return saved_step(self.directory / CHECKPOINTS)
