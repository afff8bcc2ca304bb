"""Running SLURM's own commands."""

from __future__ import annotations

import shutil
import subprocess

from pretrain.errors import UserError


def installed() -> bool:
    """Whether SLURM's commands are."""
    return shutil.which("sbatch") is not None


def call(*command: str, script: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of SLURM, with `script` on its standard input.

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


def insist(*command: str, script: str | None = None) -> str:
    """What a command says.

    Raises:
        UserError: it is not installed, or refuses; SLURM's words are in the message.
    """
    done = call(*command, script=script)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise UserError(f"{command[0]} refuses: " + "; ".join(lines or [f"code {done.returncode}"]))
    return done.stdout.strip()
