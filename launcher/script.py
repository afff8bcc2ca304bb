"""Batch scripts: the templates of launcher/slurm with a job's settings written into them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from launcher.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = ROOT / "launcher" / "slurm"
DIRECTIVE = "#SBATCH "
MARK = "# Settings:"


def training(
    settings: Settings, name: str, output: Path, arguments: Sequence[str], array: str = ""
) -> str:
    """The script of a training job.

    Args:
        name: of the job.
        output: file for its output, with SLURM's patterns such as %j.
        arguments: of pretrain/main.py, as words of shell, quoted where they need it.
        array: indices of a job array.
    """
    per_node = settings.starter != "srun"
    options = {
        **_common(settings, name, output),
        "signal": f"B:USR1@{settings.signal_seconds}",
        "nodes": str(settings.nodes),
        "ntasks-per-node": "1" if per_node else str(settings.ranks_per_node),
        "gpus-per-node": str(settings.gpus_per_node or ""),
        "cpus-per-task": str(_cores(settings) or ""),
        "array": array,
    }
    lines = [
        *_preamble(settings),
        f"export MIFIRST_PREFLIGHT_SECONDS={settings.preflight_seconds}",
        f"export MIFIRST_RESTARTS={settings.restarts}",
    ]
    if per_node:
        lines.append(f"export MIFIRST_STARTER={settings.starter}")
        lines.append(f"export MIFIRST_PROCESSES={settings.ranks_per_node}")
    lines += arguments
    template = "train-per-node.sbatch" if per_node else "train.sbatch"
    return _filled(template, options, lines, settings.sbatch)


def report(settings: Settings, name: str, output: Path, arguments: Sequence[str]) -> str:
    """The script of the job that reports a sweep; `arguments` are tools.compare_strategies'."""
    options = _common(settings, name, output)
    lines = [*_preamble(settings), f"set -- {_words(arguments)}"]
    return _filled("report.sbatch", options, lines, ())


def _cores(settings: Settings) -> int | None:
    if settings.cpus_per_task is None or settings.starter == "srun":
        return settings.cpus_per_task
    return settings.cpus_per_task * settings.ranks_per_node


def _common(settings: Settings, name: str, output: Path) -> dict[str, str]:
    return {
        "job-name": name,
        "output": str(output.absolute()),
        "chdir": str(Path.cwd()),
        "time": settings.time or "",
        "partition": settings.partition or "",
        "account": settings.account or "",
        "qos": settings.qos or "",
    }


def _preamble(settings: Settings) -> list[str]:
    lines = [f"export MIFIRST_ROOT={shlex.quote(str(ROOT))}"]
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
    directives = [f"--{name}={value}" if value else f"--{name}" for name, value in merged.items()]
    directives += more
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
