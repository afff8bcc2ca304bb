"""The one place that imports DeepSpeed and Megatron-Core for the first time.

Both warn about packages that are optional here (Apex, Transformer Engine) while they are imported,
and DeepSpeed logs at INFO. Neither reaches the user.
"""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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
    with warnings.catch_warnings(), compiling_later():
        warnings.simplefilter("ignore")
        import deepspeed
        import deepspeed.ops
        import deepspeed.runtime.zero.muon.muon_optimizer  # or ZeRO does when an engine is built
        import megatron.core.models.gpt
        import megatron.core.pipeline_parallel  # noqa: F401
    # Names that Megatron-Core and DeepSpeed still use and torch has renamed.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed\.")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # Compiled at the first start (half a minute) and not needed: gloo and NCCL do the work.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if device.type == "cpu":
        cpu.install()


@contextmanager
def compiling_later() -> Iterator[None]:
    """While inside, what `torch.compile` decorates is compiled when it is first called.

    Megatron-Core decorates its fused functions while it is imported, DeepSpeed its Muon, which
    every engine with ZeRO imports. `torch.compile` loads
    `torch._dynamo` and `torch._inductor` at once, half of the time that all imports take, and most
    runs call none of these functions.
    """
    compile_now = torch.compile

    def compile_later(function: Callable[..., Any] | None = None, **options: Any) -> Any:
        if function is None:
            return functools.partial(compile_later, **options)

        @functools.cache
        def compiled() -> Callable[..., Any]:
            return compile_now(function, **options)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return compiled()(*args, **kwargs)

        return call

    torch.compile = compile_later  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = compile_now
