"""A trace of a few steps, for Perfetto (ui.perfetto.dev) or chrome://tracing.

Named ranges in it:

    data        the step waits for its batch and moves it to the device
    selection   the feed's thread makes a later batch: reads examples and selects what comes first
    forward     the model and the loss, one range for each micro-batch
    backward    gradients, one range for each micro-batch
    reduction   gradients are summed over ranks; inside of backward where there is no pipeline
    optimizer   clipping and the update
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from megatron.core.pipeline_parallel import schedules
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

from pretrain import spans
from pretrain.config import ProfileConfig
from pretrain.distributed.topology import Topology
from pretrain.run_files import PROFILE
from pretrain.training.callbacks import Callback
from pretrain.training.engine import Engine

REDUCTIONS = ("reduce_ipg_grads", "_DeepSpeedZeroOptimizer_Stage3__reduce_and_partition_ipg_grads")
"""Methods of DeepSpeed's ZeRO optimizers that send a bucket of gradients away."""


@contextmanager
def spanned(owner: Any, method: str, name: str) -> Iterator[None]:
    """Inside, calls of `owner.method` are a span."""
    original: Callable[..., Any] = getattr(owner, method)
    own = vars(owner).get(method)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with spans.span(name):
            return original(*args, **kwargs)

    setattr(owner, method, wrapped)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, method)
        else:
            setattr(owner, method, own)


@contextmanager
def all_spans(engine: Engine) -> Iterator[None]:
    """Inside, spans are recorded, those of DeepSpeed's and Megatron's functions too."""
    with ExitStack() as stack:
        stack.enter_context(spanned(schedules, "backward_step", "backward"))
        stack.enter_context(spanned(engine.deepspeed, "allreduce_gradients", "reduction"))
        stack.enter_context(spanned(engine, "_sum_shared_gradients", "reduction"))
        for method in REDUCTIONS:
            if hasattr(engine.optimizer, method):
                stack.enter_context(spanned(engine.optimizer, method, "reduction"))
        spans.switch(True)
        stack.callback(spans.switch, False)
        yield


class Profiler(Callback):
    """Records the steps of `profile.steps` on this rank and writes
    `profile/steps-FIRST-END-rank-R.json.gz` into the run's folder."""

    def __init__(
        self, first: int, end: int, topology: Topology, engine: Engine, directory: Path
    ) -> None:
        self.first, self.end = first, end
        self.engine = engine
        self.device = topology.device
        name = f"steps-{first}-{end}-rank-{topology.ranks.rank}.json.gz"
        self.path = directory / PROFILE / name
        self._running: ExitStack | None = None
        self._profile: profile | None = None
        self.on_step(0)

    @classmethod
    def of(
        cls, settings: ProfileConfig, topology: Topology, engine: Engine, directory: Path
    ) -> list[Callback]:
        """What a run needs of it: one, or none where this rank is not asked for."""
        if settings.window is None or topology.ranks.rank not in settings.ranks:
            return []
        return [cls(*settings.window, topology, engine, directory)]

    def on_step(self, step: int) -> None:
        if step == self.first:
            self._start()
        elif step == self.end:
            self._write()

    def close(self) -> None:
        self._stop()

    def _start(self) -> None:
        self._synchronize()
        activities = [ProfilerActivity.CPU]
        if self.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        # The feed's thread was started before, and selects.
        everywhere = _ExperimentalConfig(profile_all_threads=True)
        self._profile = profile(activities=activities, experimental_config=everywhere)
        self._running = ExitStack()
        self._running.enter_context(all_spans(self.engine))
        self._running.enter_context(self._profile)

    def _stop(self) -> None:
        if self._running is not None:
            self._synchronize()
            self._running.close()
            self._running = None

    def _write(self) -> None:
        self._stop()
        assert self._profile is not None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Compressed by its name, so that it needs the ending already.
        beside = self.path.with_name(f"partial-{self.path.name}")
        self._profile.export_chrome_trace(str(beside))
        beside.replace(self.path)
        self._profile = None

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
