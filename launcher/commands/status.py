"""Show where a run stands: its job, its steps, its last checkpoint and its attempts."""

from __future__ import annotations

import argparse
import time
from datetime import datetime
from pathlib import Path

from launcher.record import Attempt, Record, Submission
from launcher.scheduler import Job, Scheduler, scheduler
from pretrain.config import read_yaml
from pretrain.paths import path_argument
from pretrain.run_files import CONFIG, MANIFEST

HELP = "show where a run stands"
LABEL = 12
ATTEMPTS_SHOWN = 8


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "run", type=path_argument, metavar="RUN", help="folder of the run, or of a sweep"
    )


def run(options: argparse.Namespace) -> int:
    """Print. Returns the exit code."""
    record = Record(options.run)
    number = record.job()
    cluster = scheduler()
    found = cluster.jobs(number) if cluster.available() else []
    submission = record.submission()
    if submission and submission.runs:
        lines = _sweep(submission, found, cluster)
    else:
        lines = _single(record, found)
    print("\n".join(lines))
    return 0


def _single(record: Record, found: list[Job]) -> list[str]:
    attempts = record.attempts()
    lines = [_entry("run", str(record.directory))]
    lines.append(_entry("job", _told(record.job(), found)))
    lines.append(_entry("step", _progress(record)))
    checkpoint = record.checkpoint()
    if checkpoint is not None:
        age = time.time() - (checkpoint / MANIFEST).stat().st_mtime
        lines.append(_entry("checkpoint", f"step {record.step():,}, {_ago(age)} ago"))
    shown = attempts[-ATTEMPTS_SHOWN:]
    for number, attempt in enumerate(shown, len(attempts) - len(shown) + 1):
        label = "attempts" if attempt is shown[0] else ""
        lines.append(_entry(label, f"{number:>2}  {_attempt(attempt)}"))
    submission = record.submission()
    if submission is not None:
        lines.append(_entry("output", _here(Path(submission.output))))
    if (logs := record.logs()) is not None:
        lines.append(_entry("ranks", f"{_here(logs)}/rank-*.log"))
    return lines


def _sweep(submission: Submission, found: list[Job], cluster: Scheduler) -> list[str]:
    runs = [Record(Path(run)) for run in submission.runs]
    out = runs[0].directory.parent
    done = sum(run.complete for run in runs)
    lines = [_entry("sweep", str(out)), _entry("job", f"array {submission.job}")]
    report = cluster.jobs(submission.report) if cluster.available() else []
    lines.append(_entry("report", _told(submission.report, report)))
    lines.append(_entry("runs", f"{done} of {len(runs)} complete"))
    states = {job.number: job.state for job in found}
    # Tasks that wait may be one entry of the scheduler's.
    waiting = next((job.state for job in found if job.phase == "waiting"), "not complete")
    width = max(len(run.directory.name) for run in runs)
    for number, run in enumerate(runs):
        state = "complete" if run.complete else states.get(f"{submission.job}_{number}", "")
        shown = (state or waiting).lower()
        lines.append(f"  {run.directory.name:<{width}}  {shown:<12} {_progress(run)}")
    return lines


def _entry(label: str, text: str) -> str:
    return f"{label:<{LABEL}}{text}".rstrip()


def _told(number: str, found: list[Job]) -> str:
    if not found:
        return f"{number}, not known to the scheduler (any more)"
    job = found[0]
    text = f"{number}, {job.state}"
    if job.phase == "running":
        return f"{text} on {job.nodes}, {job.elapsed} of {job.limit}"
    return f"{text} ({job.reason})" if job.reason else text


def _progress(record: Record) -> str:
    metrics = record.metrics()
    if metrics is None:
        return "none yet"
    path = record.directory / CONFIG
    steps = read_yaml(path).get("training", {}).get("steps") if path.exists() else None
    total = f" of {steps:,}" if steps else ""
    return f"{metrics['step']:,}{total}, loss {metrics['loss']:.4f}"


def _attempt(attempt: Attempt) -> str:
    began = datetime.fromisoformat(attempt.began).strftime("%m-%d %H:%M")
    text = f"{began}  job {attempt.job}  step {attempt.first:,}"
    if not attempt.ended:
        return text
    # A run that was complete before it could be stopped was not.
    why = f": {attempt.why}" if attempt.why and attempt.verdict != "complete" else ""
    return f"{text} to {attempt.last:,}  {attempt.verdict}{why}"


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _here(path: Path) -> str:
    """The path as seen from the working folder, where it is below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
