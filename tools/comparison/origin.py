"""Where figures come from: the commit of the code, versions and hardware."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from pretrain.distributed.topology import device_name

ROOT = Path(__file__).resolve().parent.parent.parent


def commit() -> str:
    """Commit of the code, marked where the tree differs from it; `unknown` outside a checkout."""

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


def environment() -> dict[str, str]:
    """Versions and hardware that figures depend on."""
    names = ("torch", "deepspeed", "megatron-core", "numpy")
    cuda = torch.cuda.is_available()
    return {
        "device": device_name(torch.device("cuda")) if cuda else f"CPU ({platform.machine()})",
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }
