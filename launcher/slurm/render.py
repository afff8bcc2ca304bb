"""Batch scripts: the templates of this folder with a job's settings written into them."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from launcher.scheduler import ReportJob, TrainingJob
from launcher.settings import Settings, minutes
from pretrain.errors import ConfigError

TEMPLATES = Path(__file__).resolve().parent
PLAIN = re.compile(r"[\w.,+=@%:/~^-]*", re.ASCII)
"""What sbatch reads in a script as it stands there."""
REPORT_MINUTES = "30"
"""Wall time of a report, which reads what runs have left and trains nothing."""
DIRECTIVE = "#SBATCH "
MARK = "# Settings:"
OUTPUT, ARRAY_OUTPUT, REPORT_OUTPUT = "job-%j.out", "job-%A_%a.out", "report-%j.out"
REPORT = "report.sbatch"


def training(job: TrainingJob, settings: Settings) -> str:
    """The script of a training job."""
    per_node = settings.starter != "srun"
    output = ARRAY_OUTPUT if job.tasks else OUTPUT
    throttle = f"%{job.at_once}" if job.at_once else ""
    options = {
        **_common(settings, job.name, job.folder / output),
        "signal": f"B:USR1@{settings.signal_seconds}",
        "nodes": str(settings.nodes),
        "ntasks-per-node": "1" if per_node else str(settings.ranks_per_node),
        "gpus-per-node": str(settings.gpus_per_node or ""),
        "cpus-per-task": str(_cores(settings) or ""),
        "array": indices(job.tasks) + throttle if job.tasks else "",
    }
    lines = [
        *_preamble(settings, job.program),
        f"export MIFIRST_PREFLIGHT_SECONDS={settings.preflight_seconds}",
        f"export MIFIRST_RESTARTS={settings.restarts}",
    ]
    if per_node:
        lines.append(f"export MIFIRST_STARTER={settings.starter}")
        lines.append(f"export MIFIRST_PROCESSES={settings.ranks_per_node}")
    lines += _array_start(job) if job.tasks else _start(job)
    template = "train-per-node.sbatch" if per_node else "train.sbatch"
    return _filled(template, options, lines, settings.sbatch)


def report(job: ReportJob, settings: Settings) -> str:
    """The script of the job that reports a sweep."""
    options = _common(settings, job.name, job.folder / REPORT_OUTPUT)
    if settings.time is not None:
        options["time"] = min(settings.time, REPORT_MINUTES, key=minutes)
    lines = [*_preamble(settings, job.program), f"set -- {_words(job.arguments)}"]
    return _filled(REPORT, options, lines, ())


def output(script: Path, number: str, task: int | None = None) -> Path:
    """File that a job of this script writes its output to."""
    if script.name == REPORT:
        name = REPORT_OUTPUT.replace("%j", number)
    elif task is None:
        name = OUTPUT.replace("%j", number)
    else:
        name = ARRAY_OUTPUT.replace("%A", number).replace("%a", str(task))
    return script.absolute().parent / name


def indices(tasks: Iterable[int]) -> str:
    """Indices of an array as sbatch takes them."""
    return ",".join(map(str, tasks))


def job_name(name: str) -> str:
    """A job's name without characters that SLURM or its users' scripts stumble over."""
    return re.sub(r"[^\w.,+=@:-]+", "_", name, flags=re.ASCII)


def quoted(value: str) -> str:
    """A value as sbatch reads it from a line of a script.

    Raises:
        ConfigError: it has a line of its own in it.
    """
    if "\n" in value or "\r" in value:
        raise ConfigError(f"{value!r} is more than one line, which no batch script can hold")
    if PLAIN.fullmatch(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _start(job: TrainingJob) -> list[str]:
    (run,) = job.runs
    return [f"set -- {shlex.join(['--config', job.config, '--run.directory', str(run)])}"]


def _array_start(job: TrainingJob) -> list[str]:
    folders = "\n".join(f"    {shlex.quote(str(run))}" for run in job.runs)
    return [
        f"runs=(\n{folders}\n)",
        "run_directory=${runs[SLURM_ARRAY_TASK_ID]}",
        f'set -- --config "$run_directory/{job.config}" --run.directory "$run_directory"',
    ]


def _cores(settings: Settings) -> int | None:
    if settings.cpus_per_task is None or settings.starter == "srun":
        return settings.cpus_per_task
    return settings.cpus_per_task * settings.ranks_per_node


def _common(settings: Settings, name: str, output: Path) -> dict[str, str]:
    return {
        "job-name": job_name(name),
        # SLURM takes % in it for a pattern.
        "output": str(output.parent.absolute()).replace("%", "%%") + f"/{output.name}",
        "chdir": str(Path.cwd()),
        "time": settings.time or "",
        "partition": settings.partition or "",
        "account": settings.account or "",
        "qos": settings.qos or "",
    }


def _preamble(settings: Settings, program: Path) -> list[str]:
    lines = [f"export MIFIRST_ROOT={shlex.quote(str(program.absolute()))}"]
    for path in (Path.cwd(), program.absolute()) if settings.container else ():
        if {",", ":"} & set(str(path)):
            raise ConfigError(
                f"container {settings.container}: {path} has a comma or colon in it, which cannot "
                "be said to a container; use a folder without them"
            )
    python = settings.python or (None if settings.container else sys.executable)
    if python:
        lines.append(f"export MIFIRST_PYTHON={shlex.quote(python)}")
    if settings.container:
        lines.append(f"export MIFIRST_RUNTIME={settings.runtime}")
        lines.append(f"export MIFIRST_IMAGE={shlex.quote(settings.container)}")
    if settings.mounts:
        lines.append(f"export MIFIRST_MOUNTS={shlex.quote(','.join(settings.mounts))}")
    lines += [f"export {name}={shlex.quote(text)}" for name, text in settings.environment.items()]
    return [*lines, *settings.setup]


def _words(words: Iterable[str]) -> str:
    """Words of shell, a line per option."""
    text = ""
    for word in words:
        quoted = shlex.quote(word)
        text += f" \\\n    {quoted}" if word.startswith("--") and text else f" {quoted}"
    return text.strip()


def _filled(
    template: str, options: dict[str, str], lines: Sequence[str], more: Sequence[str]
) -> str:
    """The template with SLURM's options merged by name, and lines below its mark."""
    text = (TEMPLATES / template).read_text(encoding="utf-8").splitlines()
    merged: dict[str, str] = {}
    for line in text:
        if line.startswith(DIRECTIVE):
            name, _, value = line.removeprefix(DIRECTIVE).removeprefix("--").partition("=")
            merged[name] = value
    merged |= {name: value for name, value in options.items() if value}
    directives = [
        f"--{name}={quoted(value)}" if value else f"--{name}" for name, value in merged.items()
    ]
    for option in more:
        name, sign, value = option.partition("=")
        directives.append(f"{name}{sign}{quoted(value)}")
    filled: list[str] = []
    placed = False
    for line in text:
        if line.startswith(DIRECTIVE):
            if not placed:
                filled += [DIRECTIVE + directive for directive in directives]
            placed = True
        elif line.startswith(MARK):
            filled += lines
        else:
            filled.append(line)
    return "\n".join(filled) + "\n"
