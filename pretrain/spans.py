"""Named parts of a step, for the profiler (pretrain.training.profiling) and for whoever watches
that the process gets on (pretrain.training.health.heartbeat).

A span costs next to nothing while nobody records and nobody watches.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Protocol

_NOTHING: AbstractContextManager[Any] = nullcontext()
_recording = False
_watcher: Watcher | None = None


class Watcher(Protocol):
    """Is told of every span, in the thread that it is in."""

    def entered(self, name: str) -> None:
        """A span begins."""
        ...

    def left(self, name: str) -> None:
        """It ends, also by an error."""
        ...

    def tick(self) -> None:
        """What is under way gets on."""
        ...


class _Span:
    """A span that somebody records or watches."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.watcher = _watcher
        self.range = _NOTHING
        if _recording:
            from torch.profiler import record_function

            self.range = record_function(name)

    def __enter__(self) -> None:
        if self.watcher is not None:
            self.watcher.entered(self.name)
        self.range.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.range.__exit__(kind, error, trace)
        if self.watcher is not None:
            self.watcher.left(self.name)


def span(name: str) -> AbstractContextManager[Any]:
    """What happens inside is shown as `name` in a trace, and is what the process is said to do."""
    return _Span(name) if _recording or _watcher is not None else _NOTHING


def tick() -> None:
    """Say that long work without spans gets on."""
    if _watcher is not None:
        _watcher.tick()


def switch(on: bool) -> None:
    """Whether spans are recorded from now on, in all threads."""
    global _recording
    _recording = on


def watch(watcher: Watcher | None) -> None:
    """Who is told of spans from now on, in all threads; None for nobody."""
    global _watcher
    _watcher = watcher
