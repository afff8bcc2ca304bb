"""Named parts of a step, for the profiler (pretrain.training.profiling).

A span is a range of `torch.profiler` while something is recorded, and next to nothing otherwise.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

_NOTHING: AbstractContextManager[Any] = nullcontext()
_recording = False


def span(name: str) -> AbstractContextManager[Any]:
    """What happens inside is shown as `name` in a trace."""
    if not _recording:
        return _NOTHING
    from torch.profiler import record_function

    return record_function(name)


def switch(on: bool) -> None:
    """Whether spans are recorded from now on, in all threads."""
    global _recording
    _recording = on
