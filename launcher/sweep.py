"""A job array that trains one run per strategy and seed, and a job that reports them at the end.

Runs and folders are those of tools.compare_strategies, which writes the report.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.program import copy_program, program_of
from launcher.record import Record, Submission
from launcher.scheduler import ReportJob, Scheduler, TrainingJob
from launcher.settings import Settings
from launcher.submission import now, refuse_active, write
from pretrain.config import Config
from pretrain.errors import ConfigError
from pretrain.run_files import CONFIG

REQUESTED = "requested.yaml"


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep below the folder `out`, and the scripts of its two jobs."""

    out: Path
    config: Config
    scheduler: Scheduler
    runs: tuple[Path, ...]
    requested: tuple[str, ...]
    complete: tuple[bool, ...]
    training: str
    report: str

    @staticmethod
    def of(
        config: Config,
        scheduler: Scheduler,
        settings: Settings,
        strategies: str | None,
        seeds: str | None,
        at_once: int | None,
        dry_run: bool = False,
    ) -> Sweep:
        """Plan the runs.

        Raises:
            ConfigError: a strategy or seed is refused, or a folder holds a run of another
                configuration.
        """
        from tools.compare_strategies import split_seeds
        from tools.comparison.runs import plan
        from tools.comparison.variants import parse_variants

        if config.checkpoint.resume != "auto":
            raise ConfigError(
                f"checkpoint.resume {config.checkpoint.resume} cannot be used in a sweep, whose "
                "runs go on by themselves; leave it out"
            )
        if at_once is not None and at_once < 1:
            raise ConfigError(f"--at-once {at_once}: expected at least 1")
        out = config.run.directory
        strategies = strategies or config.selection.strategy
        seeds = seeds or str(config.training.seed)
        planned = plan(config, parse_variants(strategies), split_seeds(seeds), out)
        runs = tuple(run.directory for run in planned)
        complete = tuple(run.result is not None for run in planned)
        folder = Record(out).folder
        program = program_of(folder, dry_run)
        training = TrainingJob(
            f"mifirst-{out.name}", folder, program, REQUESTED, runs,
            tuple(number for number, done in enumerate(complete) if not done), at_once,
        )  # fmt: skip
        report = ReportJob(f"mifirst-{out.name}-report", folder, program, (
            "--config", str(folder / CONFIG), "--strategies", strategies, "--seeds", seeds,
            "--out", str(out), "--processes", str(settings.ranks),
        ))  # fmt: skip
        requested = tuple(run.config.to_yaml() for run in planned)
        return Sweep(
            out, config, scheduler, runs, requested, complete,
            scheduler.training_script(training, settings),
            scheduler.report_script(report, settings),
        )  # fmt: skip

    def show(self, plan: Sequence[str]) -> int:
        """Print both scripts. Returns the exit code."""
        trained = self.complete.count(False)
        print("\n".join(f"# {line}" for line in plan))
        print(f"# {len(self.runs)} runs, {trained} of them to be trained\n{self.training}")
        print(f"# then, when they have ended:\n{self.report}", end="")
        return 0

    def submit(self) -> int:
        """Submit both jobs. Returns the exit code."""
        record = Record(self.out)
        refuse_active(record, self.scheduler)
        if all(self.complete):
            print(f"all {len(self.runs)} runs are complete; only the report is made")
        else:
            self.scheduler.try_out(self.training)
        for run, text in zip(self.runs, self.requested, strict=True):
            write(run / REQUESTED, text)
        write(record.folder / CONFIG, self.config.to_yaml())
        copy_program(record.folder)
        write(record.folder / "job.sbatch", self.training)
        write(record.folder / "report.sbatch", self.report)
        submit_array(record, self.scheduler, self.runs, self.complete)
        return 0


def submit_array(
    record: Record,
    scheduler: Scheduler,
    runs: Sequence[Path],
    complete: Sequence[bool],
    options: Sequence[str] = (),
) -> None:
    """Submit the array for the runs that are not complete, with more options of the scheduler's,
    and the report after it."""
    batch, report_batch = record.folder / "job.sbatch", record.folder / "report.sbatch"
    waiting = [number for number, done in enumerate(complete) if not done]
    job = scheduler.submit(batch, tasks=waiting, options=options) if waiting else ""
    report = scheduler.submit(report_batch, after=job)
    submission = Submission(
        job or report, now(), str(batch), "",
        tuple(str(run.absolute()) for run in runs), report,
    )  # fmt: skip
    record.add(submission)
    for number in waiting:
        output = scheduler.output(batch, job, number)
        task = replace(submission, job=f"{job}_{number}", output=str(output), runs=(), report="")
        Record(runs[number]).add(task)
    if job:
        print(f"job array {job}: {len(waiting)} runs below {record.directory}")
    told = scheduler.output(report_batch, report)
    print(f"report {report}: {record.directory}/report.html, {told}")
    print(f"python -m launcher status {shlex.quote(str(record.directory))}")
