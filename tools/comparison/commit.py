"""The commit of the code."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WRITTEN = "COMMIT"


def commit() -> str:
    """Commit of the code, marked where the tree differs from it; `unknown` outside a checkout. A
    copy of the program (launcher.program) has it in a file."""
    written = ROOT / WRITTEN
    if written.exists():
        return written.read_text(encoding="utf-8").strip()

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            " with changes" if git("status", "--porcelain", "-uno") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
