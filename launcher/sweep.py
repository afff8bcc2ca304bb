"""A job array that trains one run per strategy and seed, and a job that reports them at the end.

Runs and folders are those of tools.compare_strategies, which writes the report.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher import script, slurm_commands
from launcher.record import Record, Submission
from launcher.settings import Settings
from launcher.submission import now, refuse_active, write
from pretrain.config import Config
from pretrain.errors import ConfigError

REQUESTED = "requested.yaml"


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep below the folder `out`, and the scripts of its two jobs."""

    out: Path
    config: Config
    runs: tuple[Path, ...]
    requested: tuple[str, ...]
    complete: tuple[bool, ...]
    training: str
    report: str

    @staticmethod
    def of(
        config: Config,
        settings: Settings,
        strategies: str | None,
        seeds: str | None,
        at_once: int | None,
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
        waiting = [number for number, done in enumerate(complete) if not done]
        indices = _indices(waiting) + (f"%{at_once}" if at_once else "")
        folder = Record(out).folder
        training = script.training(
            settings, f"mifirst-{out.name}", folder / "job-%A_%a.out", _start(runs), indices
        )
        arguments = ["--config", str(folder / "config.yaml"), "--strategies", strategies,
                     "--seeds", seeds, "--out", str(out),
                     "--processes", str(settings.ranks)]  # fmt: skip
        report = script.report(settings, f"mifirst-{out.name}-report", folder / "report-%j.out",
                               arguments)  # fmt: skip
        requested = tuple(run.config.to_yaml() for run in planned)
        return Sweep(out, config, runs, requested, complete, training, report)

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
        refuse_active(record)
        if all(self.complete):
            print(f"all {len(self.runs)} runs are complete; only the report is made")
        else:
            slurm_commands.try_out(self.training)
        for run, text in zip(self.runs, self.requested, strict=True):
            write(run / REQUESTED, text)
        write(record.folder / "config.yaml", self.config.to_yaml())
        write(record.folder / "job.sbatch", self.training)
        write(record.folder / "report.sbatch", self.report)
        submit_array(record, self.runs, self.complete)
        return 0


def submit_array(
    record: Record, runs: Sequence[Path], complete: Sequence[bool], options: Sequence[str] = ()
) -> None:
    """Submit the array for the runs that are not complete, with more options of sbatch, and the
    report after it."""
    folder = record.folder
    waiting = [number for number, done in enumerate(complete) if not done]
    job, after = "", []
    if waiting:
        batch = folder / "job.sbatch"
        job = slurm_commands.submit(batch, ["--array", _throttled(batch, waiting), *options])
        after = [f"--dependency=afterany:{job}"]
    report = slurm_commands.submit(folder / "report.sbatch", after)
    submission = Submission(
        job or report, now(), str(folder / "job.sbatch"), "",
        tuple(str(run.absolute()) for run in runs), report,
    )  # fmt: skip
    record.add(submission)
    for number in waiting:
        output = folder.absolute() / f"job-{job}_{number}.out"
        task = replace(submission, job=f"{job}_{number}", output=str(output), runs=(), report="")
        Record(runs[number]).add(task)
    if job:
        print(f"job array {job}: {len(waiting)} runs below {record.directory}")
    print(f"report {report}: {record.directory}/report.html, {folder}/report-{report}.out")
    print(f"python -m launcher status {record.directory}")


def _start(runs: Sequence[Path]) -> list[str]:
    folders = "\n".join(f"    {shlex.quote(str(run))}" for run in runs)
    return [
        f"runs=(\n{folders}\n)",
        "run_directory=${runs[SLURM_ARRAY_TASK_ID]}",
        f'set -- --config "$run_directory/{REQUESTED}" --run.directory "$run_directory"',
    ]


def _indices(numbers: Sequence[int]) -> str:
    return ",".join(str(number) for number in numbers)


def _throttled(batch: Path, numbers: Sequence[int]) -> str:
    """Indices of an array with the limit of runs at a time that its script has."""
    for line in batch.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{script.DIRECTIVE}--array=") and "%" in line:
            return _indices(numbers) + line[line.index("%") :]
    return _indices(numbers)
