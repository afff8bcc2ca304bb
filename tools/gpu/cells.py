"""One measurement of `speed`: a side trains a size, in a process of its own that has the device.

    python -m tools.gpu.cells cuda    # imports all there is, and waits for a cell on its input

The process that asks starts the next one while this one measures, so that imports cost no time.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch

from pretrain.config import Config
from pretrain.console import run_program
from pretrain.distributed import backends
from pretrain.distributed import topology as topologies
from pretrain.errors import UserError
from pretrain.files import json_text
from tools.bench.baseline_pytorch import run_plain
from tools.bench.hugging_face import run_hugging_face
from tools.bench.interleaved import MIB, Orders, missing
from tools.bench.subject import ALONE, TOKENIZER, batch_of, run_ours
from tools.gpu.sizes import config_of, fitting, halvings

WARM_UP = 2
BLOCKS = 3


@dataclass(frozen=True)
class Kind:
    """A side.

    Attributes:
        run: trains by a configuration.
        packages: that it needs beside the project's own.
        training: changes of the training section.
    """

    run: Callable[[Config, Orders], None]
    packages: tuple[str, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)


KINDS = {
    "ours": Kind(run_ours),
    "ours_compiled": Kind(run_ours, training={"compile": True}),
    "ours_recompute": Kind(run_ours, training={"compile": True, "recompute": "full"}),
    "plain": Kind(partial(run_plain, master_weights=True)),
    "plain_compiled": Kind(partial(run_plain, master_weights=True, compiled="blocks")),
    "plain_compiled_whole": Kind(partial(run_plain, master_weights=True, compiled="whole")),
    "hugging_face": Kind(run_hugging_face, ("transformers", "accelerate")),
}


@dataclass(frozen=True)
class Cell:
    """What is measured.

    Attributes:
        micro_batch: sequences; 0 for what the planner says fits.
        seconds: that the timed steps are to take.
    """

    size: str
    sequence: int
    side: str
    device: str = "cuda"
    tiny: bool = False
    micro_batch: int = 0
    seconds: float = 4.0

    @property
    def name(self) -> str:
        """As it is called in files and options."""
        return f"{self.size}@{self.sequence} {self.side}"

    def config(self, micro_batch: int) -> Config:
        """The step of this cell."""
        training = KINDS[self.side].training
        return config_of(self.size, self.sequence, self.device, self.tiny, micro_batch, **training)


class Timer(Orders):
    """Warms up, then times BLOCKS blocks of steps, as many as fill the seconds.

    Attributes:
        blocks: seconds per step of each block.
        peak: bytes that torch had allocated on the device at most after the warm-up.
    """

    def __init__(self, seconds: float) -> None:
        self.cuda = False
        self.seconds = seconds
        self.steps = self.left = WARM_UP
        self.blocks: list[float] = []
        self.peak: int | None = None
        self.warm = False
        self._start()

    def model_follows(self, device: torch.device) -> None:
        """Steps follow."""
        self.cuda = device.type == "cuda"

    def step_done(self) -> bool:
        """Whether another step is wanted."""
        self.left -= 1
        if self.left > 0:
            return True
        if self.cuda:
            torch.cuda.synchronize()
        taken = (time.perf_counter() - self.started) / self.steps
        if self.warm:
            self.blocks.append(taken)
            if len(self.blocks) == BLOCKS:
                self.peak = torch.cuda.max_memory_allocated() if self.cuda else None
                return False
        elif self.steps == WARM_UP:
            self.steps = self.left = 1  # one that compiles nothing
            self._start()
            return True
        else:
            self.warm = True
            if self.cuda:
                torch.cuda.reset_peak_memory_stats()
            self.steps = min(50, max(1, math.floor(self.seconds / BLOCKS / taken)))
        self.left = self.steps
        self._start()
        return True


def out_of_memory(error: BaseException) -> bool:
    """Whether the device had no room."""
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)


def one(cell: Cell, micro_batch: int) -> dict[str, Any]:
    """Time a side at one micro-batch."""
    config = cell.config(micro_batch)
    timer = Timer(cell.seconds)
    KINDS[cell.side].run(config, timer)
    return _figures(config, timer)


def _figures(config: Config, timer: Timer) -> dict[str, Any]:
    seconds = statistics.median(timer.blocks)
    training = config.training
    return {
        "micro_batch": training.micro_batch,
        "global_batch": training.global_batch,
        "step_seconds": seconds,
        "blocks": timer.blocks,
        "tokens_per_second": training.global_batch * config.model.sequence_length / seconds,
        "device_peak_mib": None if timer.peak is None else round(timer.peak / MIB, 1),
    }


def swept(cell: Cell, first: int) -> dict[str, Any]:
    """Our side at micro-batches from `first` down by halves, in steps of the same tokens, on one
    engine, until one is slower than the one before; the fastest of them is timed in full."""
    tried: list[dict[str, Any]] = []
    config = cell.config(first)
    with topologies.start(config, ALONE) as topology:
        from pretrain.model.gpt import build
        from pretrain.training.engine import Engine

        rows = config.vocabulary_size(TOKENIZER)
        batch = batch_of(config).to(topology.device)
        engine = Engine(config, topology, build(config, topology, rows))
        for micro_batch in list(halvings(first))[:3]:
            config.training.micro_batch = engine.micro_batch = micro_batch
            timer = Timer(cell.seconds / 3)
            timer.model_follows(topology.device)
            timer.serve(lambda: engine.train_step(batch, 1e-4))
            tried.append(_figures(config, timer))
            if tried[-1]["tokens_per_second"] < max(t["tokens_per_second"] for t in tried):
                break
    best = max(tried, key=lambda figures: figures["tokens_per_second"])
    return {**best, "tried": tried}


def measure(cell: Cell) -> dict[str, Any]:
    """The cell's figures; the micro-batch is halved for as long as the device has no room.

    Raises:
        UserError: a package is missing, or there is no room for one sequence.
    """
    if lacking := missing(KINDS[cell.side].packages):
        raise UserError(f"{', '.join(lacking)} not installed")
    # Each micro-batch is compiled for itself.
    torch._dynamo.config.automatic_dynamic_shapes = False
    first = cell.micro_batch
    if not first and cell.tiny:
        first = 2
    elif not first:
        memory = torch.cuda.get_device_properties(0).total_memory
        first = fitting(cell.size, cell.sequence, memory, **KINDS[cell.side].training)
    refused = []
    for micro_batch in halvings(first):
        try:
            sweeps = cell.side == "ours" and not cell.micro_batch
            found = swept(cell, micro_batch) if sweeps else one(cell, micro_batch)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            refused.append(micro_batch)
        else:
            return {**asdict(cell), **found, "first": first, "no_room": refused}
        gc.collect()
        if cell.device == "cuda":
            torch.cuda.empty_cache()
    raise UserError(f"no room for one sequence; tried {refused}")


def main() -> int:
    """Wait for a cell as a line of JSON, measure it, print the figures as the last line."""
    (device,) = sys.argv[1:]
    backends.load(torch.device(device))
    importlib.import_module("pretrain.training.engine")
    line = sys.stdin.readline()
    if not line:
        return 0
    print(json_text(measure(Cell(**json.loads(line)))), flush=True)
    return 0


if __name__ == "__main__":
    run_program(main)
