"""Where figures come from: the commit of the code, versions and hardware."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

from tools.comparison.commit import ROOT, commit

__all__ = ["ROOT", "commit", "environment"]


def environment() -> dict[str, str]:
    """Versions and hardware that figures depend on."""
    import torch

    from pretrain.distributed.topology import device_name

    names = ("torch", "deepspeed", "megatron-core", "numpy")
    cuda = torch.cuda.is_available()
    return {
        "device": device_name(torch.device("cuda")) if cuda else f"CPU ({platform.machine()})",
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }
