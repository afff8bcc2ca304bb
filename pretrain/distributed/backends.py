"""The one place that imports DeepSpeed and Megatron-Core for the first time.

Both warn about packages that are optional here (Apex, Transformer Engine) while they are imported,
and DeepSpeed logs at INFO. Neither reaches the user.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings

import torch

from pretrain.distributed.lean import (
    SHARDING,
    TRACKERS,
    compiling_later,
    no_safe_globals,
    standing_in,
    without,
)
from pretrain.imports import importing


def load(device: torch.device) -> None:
    """Import both quietly and prepare them for `device`.

    Safe to call twice. Must come before anything else imports DeepSpeed, which picks its
    accelerator at the first use.
    """
    from pretrain.distributed import cpu

    os.environ.setdefault("DS_ACCELERATOR", device.type)
    # Without Transformer Engine, overlapping communication needs one hardware queue.
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "1")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    if "megatron.core.models.gpt" not in sys.modules:
        with importing():
            _import_both(device)
    import deepspeed

    # Names that Megatron-Core and DeepSpeed still use and torch has renamed.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed\.")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # Compiled at the first start (half a minute) and not needed: gloo and NCCL do the work.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if device.type == "cpu":
        cpu.install()


def _import_both(device: torch.device) -> None:
    with warnings.catch_warnings(), compiling_later(), standing_in(without(TRACKERS)):
        warnings.simplefilter("ignore")
        import deepspeed.ops
        import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401  # or an engine of ZeRO does

        # On a GPU, Transformer Engine may want what Megatron-Core does without.
        with standing_in(without(SHARDING) | no_safe_globals() if device.type == "cpu" else {}):
            import megatron.core.models.gpt
            import megatron.core.pipeline_parallel  # noqa: F401
