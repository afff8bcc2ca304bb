"""Cancelling jobs."""

from __future__ import annotations

from launcher.slurm.commands import insist


def cancel(number: str) -> None:
    """Cancel a job.

    Raises:
        UserError: SLURM refuses.
    """
    insist("scancel", number)
