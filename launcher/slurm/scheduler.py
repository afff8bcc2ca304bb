"""SLURM, as the launcher asks it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from launcher.scheduler import Job, ReportJob, Scheduler, TrainingJob
from launcher.settings import Settings
from launcher.slurm import cancel, commands, jobs, render, submit


class Slurm(Scheduler):
    """SLURM through sbatch, scancel, scontrol and, where it is kept, sacct."""

    def available(self) -> bool:
        return commands.installed()

    def cluster(self) -> str | None:
        return jobs.cluster_name() if self.available() else None

    def node(self) -> str | None:
        return os.environ.get("SLURMD_NODENAME") or None

    def training_script(self, job: TrainingJob, settings: Settings) -> str:
        return render.training(job, settings)

    def report_script(self, job: ReportJob, settings: Settings) -> str:
        return render.report(job, settings)

    def output(self, script: Path, number: str, task: int | None = None) -> Path:
        return render.output(script, number, task)

    def try_out(self, script: str) -> None:
        submit.try_out(script)

    def submit(
        self,
        script: Path,
        *,
        tasks: Sequence[int] = (),
        after: str = "",
        options: Sequence[str] = (),
    ) -> str:
        return submit.submit(script, tasks, after, options)

    def cancel(self, number: str) -> None:
        cancel.cancel(number)

    def jobs(self, number: str) -> list[Job]:
        return jobs.jobs(number)
