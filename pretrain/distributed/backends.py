"""The one place that imports DeepSpeed and Megatron-Core for the first time.

Both warn about packages that are optional here (Apex, Transformer Engine) while they are imported,
and DeepSpeed logs at INFO. Neither reaches the user.
"""

from __future__ import annotations

import logging
import os
import warnings

import torch


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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import deepspeed
        import deepspeed.ops
        import megatron.core.models.gpt
        import megatron.core.pipeline_parallel  # noqa: F401
    # Names that Megatron-Core and DeepSpeed still use and torch has renamed.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed\.")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # Compiled at the first start (half a minute) and not needed: gloo and NCCL do the work.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if device.type == "cpu":
        cpu.install()
