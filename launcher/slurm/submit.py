"""Handing batch scripts to sbatch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from launcher.slurm.commands import insist
from launcher.slurm.render import DIRECTIVE, indices


def try_out(script: str) -> None:
    """Ask SLURM whether it would take a batch script, without submitting it.

    Raises:
        UserError: it would not.
    """
    insist("sbatch", "--test-only", script=script)


def submit(
    script: Path, tasks: Sequence[int] = (), after: str = "", options: Sequence[str] = ()
) -> str:
    """Submit a batch script; see :meth:`launcher.scheduler.Scheduler.submit`.

    Raises:
        UserError: SLURM refuses it.
    """
    more = ["--array", indices(tasks) + _throttle(script)] if tasks else []
    if after:
        more.append(f"--dependency=afterany:{after}")
    return insist("sbatch", "--parsable", *more, *options, str(script)).split(";")[0]


def _throttle(script: Path) -> str:
    """The limit of tasks at a time that a script has, such as `%4`; empty without one."""
    for line in script.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{DIRECTIVE}--array=") and "%" in line:
            return line[line.index("%") :]
    return ""
