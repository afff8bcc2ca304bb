"""Where the host waits for the device.

On CUDA torch says so itself (`torch.cuda.set_sync_debug_mode`). On a CPU nothing waits, and so what
would wait on CUDA is counted: operators whose result the host reads or whose shape depends on
values, and calls of DeepSpeed's `synchronize`.
"""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pretrain.distributed import backends

WAITING = frozenset(
    ("_local_scalar_dense", "equal", "is_nonzero", "masked_select", "nonzero", "unique_dim",
     "_unique2", "unique_consecutive", "repeat_interleave")
)  # fmt: skip
"""Operators of torch that wait for the device."""


class WaitingOperators(TorchDispatchMode):
    """Counts operators of :data:`WAITING` by name and place while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, operator: Any, _: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operator."""
        name = operator.name().removeprefix("aten::").split(".")[0]
        if name in WAITING or (name == "index" and _by_mask(args)):
            self.found[f"{name} at {_place()}"] += 1
        return operator(*args, **(kwargs or {}))


def _by_mask(args: tuple[Any, ...]) -> bool:
    indices = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ()
    return any(torch.is_tensor(one) and one.dtype == torch.bool for one in indices)


def _place() -> str:
    """The line of ours, or of another package than torch, that is running."""
    for frame in reversed(traceback.extract_stack()):
        if "/torch/" not in frame.filename and frame.filename != __file__:
            name = frame.filename.split("site-packages/")[-1].split("/")
            return f"{'/'.join(name[-3:])}:{frame.lineno}"
    return "?"


@contextmanager
def counted(device: str) -> Iterator[Counter[str]]:
    """Inside, what waits for the device is counted by name and place."""
    backends.load(torch.device(device))
    found: Counter[str] = Counter()
    if device == "cuda":
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            before = torch.cuda.get_sync_debug_mode()
            torch.cuda.set_sync_debug_mode("warn")
            with _synchronize_counted(found):
                try:
                    yield found
                finally:
                    torch.cuda.set_sync_debug_mode(before)
        for warning in caught:
            if "synchronizing" in str(warning.message):
                name = "/".join(warning.filename.split("/")[-3:])
                found[f"{name}:{warning.lineno}"] += 1
        return
    with WaitingOperators() as operators, _synchronize_counted(found):
        yield found
    found.update(operators.found)


@contextmanager
def _synchronize_counted(found: Counter[str]) -> Iterator[None]:
    """Inside, DeepSpeed's waits for the whole device are counted; on a CPU, where DeepSpeed skips
    them, as on CUDA."""
    from deepspeed.accelerator import get_accelerator

    accelerator: Any = get_accelerator()
    synchronize: Callable[..., Any] = accelerator.synchronize
    resolves = accelerator.resolves_data_dependency

    def waited(*args: Any, **kwargs: Any) -> Any:
        found[f"synchronize at {_place_of_caller()}"] += 1
        return synchronize(*args, **kwargs)

    accelerator.synchronize = waited
    accelerator.resolves_data_dependency = lambda: False
    try:
        yield
    finally:
        accelerator.synchronize = synchronize
        accelerator.resolves_data_dependency = resolves


def _place_of_caller() -> str:
    frame = traceback.extract_stack(limit=3)[0]
    return f"{'/'.join(frame.filename.split('/')[-3:])}:{frame.lineno}"
