"""What a process runs on: versions, device, network interfaces."""

from __future__ import annotations

import os
import platform
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from launcher.scheduler import scheduler

PACKAGES = ("torch", "deepspeed", "megatron-core", "numpy")
VARIABLES = ("NCCL_", "GLOO_", "FI_", "UCX_", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")


def environment() -> dict[str, str]:
    """One entry per subject, each one line; equal on nodes that are set up alike."""
    return {
        "versions": ", ".join([f"python {platform.python_version()}", *map(_version, PACKAGES)]),
        "device": _device(),
        "interfaces": ", ".join(_interfaces()) or "none",
        "variables": ", ".join(
            f"{name}={value}"
            for name, value in sorted(os.environ.items())
            if name.startswith(VARIABLES)
        ),
    }


def node_name() -> str:
    """This node, as the scheduler calls it, or the host's name."""
    return scheduler().node() or socket.gethostname()


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"


def _device() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"CPU ({platform.machine()}), {len(os.sched_getaffinity(0))} cores"
    count = torch.cuda.device_count()
    nccl = ".".join(map(str, torch.cuda.nccl.version()))
    return f"{count} x {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, NCCL {nccl}"


def _interfaces() -> list[str]:
    """Network interfaces that are up, and InfiniBand ports with state and rate."""
    found = []
    for path in sorted(Path("/sys/class/net").glob("*")):
        if path.name != "lo" and _text(path / "operstate") in ("up", "unknown"):
            speed = _text(path / "speed")
            fast = speed.isdecimal() and int(speed) > 0
            found.append(f"{path.name} {int(speed) / 1000:g} Gb/s" if fast else path.name)
    for port in sorted(Path("/sys/class/infiniband").glob("*/ports/*")):
        state = _text(port / "state").partition(": ")[2] or "?"
        found.append(f"{port.parent.parent.name} {state.lower()} {_text(port / 'rate')}")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
