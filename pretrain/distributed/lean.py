"""Imports of DeepSpeed and Megatron-Core without what no run of this project calls.

Left to themselves they import torch's compiler, sympy, FSDP, distributed checkpoints and experiment
trackers, which together take longer than all that trains.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

TRACKERS = ("comet_ml", "mlflow", "wandb")
"""What both can hand figures to where it is installed."""
SHARDING = (
    "megatron.core.distributed.fsdp.src", "torch.distributed._tensor", "torch.distributed.fsdp",
)  # fmt: skip
"""FSDP and its tensors, which Megatron-Core does without where they cannot be imported."""
SAFE_GLOBALS = "megatron.core.safe_globals"
"""Tells torch.load which classes of Megatron-Core's own checkpoints are harmless, for which it
imports its optimizers and torch's distributed checkpoints. Nothing is unpickled here."""


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


@contextmanager
def standing_in(modules: dict[str, ModuleType | None]) -> Iterator[None]:
    """While inside, these modules are imported instead of those of the same names, unless they are
    there already. Importing None raises ImportError."""
    ours: dict[str, Any] = {name: m for name, m in modules.items() if name not in sys.modules}
    sys.modules.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del sys.modules[name]


def without(names: tuple[str, ...]) -> dict[str, ModuleType | None]:
    """For :func:`standing_in`: modules that cannot be imported."""
    return dict.fromkeys(names)


def no_safe_globals() -> dict[str, ModuleType | None]:
    """For :func:`standing_in`: SAFE_GLOBALS that tells nothing."""
    module = ModuleType(SAFE_GLOBALS)
    module.register_safe_globals = lambda: None  # type: ignore[attr-defined]
    return {SAFE_GLOBALS: module}
