"""All that lets Megatron-Core run on a host without CUDA. Nothing else does, and with CUDA present
:func:`install` does nothing.

Megatron-Core asks CUDA for three things even where every tensor could live on the CPU: the current
device, the random state, and a handful of `device="cuda"` literals. Each gets the CPU's answer.
"""

from __future__ import annotations

import ctypes
import logging
import os
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class _TorchOnCpu(types.ModuleType):
    """`torch` as one Megatron module sees it: factories that are told "cuda" answer on the CPU.

    Handed to single modules only, so that no other torch call pays for it.
    """

    def __init__(self) -> None:
        super().__init__("torch")

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def _on_cpu(kwargs: dict[str, Any]) -> dict[str, Any]:
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = "cpu"
        return kwargs

    def zeros(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return torch.zeros(*args, **self._on_cpu(kwargs))

    def ones(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return torch.ones(*args, **self._on_cpu(kwargs))

    def tensor(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return torch.tensor(*args, **self._on_cpu(kwargs))


def has_cuda() -> bool:
    """Whether a CUDA device can be used: one is there, and DS_ACCELERATOR does not say cpu."""
    return torch.cuda.is_available() and os.environ.get("DS_ACCELERATOR") != "cpu"


def install() -> None:
    """Answer Megatron-Core's questions about CUDA with the CPU. Safe to call twice."""
    if has_cuda():
        return
    keep_freed_memory()
    from megatron.core.pipeline_parallel import schedules
    from megatron.core.tensor_parallel import random as megatron_random
    from megatron.core.transformer import utils as transformer_utils

    device = torch.device("cpu")
    torch.cuda.current_device = lambda: device  # type: ignore[assignment, return-value]

    def get_state(*_: Any, **__: Any) -> torch.Tensor:
        return torch.get_rng_state()

    def set_state(state: torch.Tensor, *_: Any, **__: Any) -> None:
        torch.set_rng_state(state)

    torch.cuda.get_rng_state = get_state
    torch.cuda.set_rng_state = set_state  # type: ignore[assignment]
    torch.cuda.manual_seed = lambda seed: torch.manual_seed(seed)  # type: ignore[assignment]
    megatron_random._get_cuda_rng_state = get_state
    megatron_random._set_cuda_rng_state = set_state
    # It watches the CPU's random state while CUDA's is in use; here they are the same.
    logging.getLogger(megatron_random.__name__).setLevel(logging.ERROR)
    for module in (schedules, transformer_utils):
        module.torch = _TorchOnCpu()


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, as CUDA's caching allocator does.

    glibc gives every large tensor fresh pages from the kernel and returns them when it is freed;
    faulting them in again costs a training step 10 to 15 %. Other C libraries are left alone.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    largest = 2**31 - 1
    mallopt(mmap_threshold, largest)
    mallopt(trim_threshold, largest)


@contextmanager
def tensors_stay() -> Iterator[None]:
    """While a model is built, `Tensor.cuda()` returns the tensor itself where there is no CUDA."""
    if has_cuda():
        yield
        return
    original = torch.Tensor.cuda
    torch.Tensor.cuda = lambda tensor, *_, **__: tensor  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.cuda = original  # type: ignore[method-assign]
