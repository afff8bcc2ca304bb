"""Training steps that are timed as another process tells: sides of a benchmark that take turns.

Each side lives in a process of its own, so that none disturbs the memory of another. A side calls
:meth:`Orders.step_done` after each of its steps, from its own loop or from a callback of a foreign
one; there it waits until it is its turn again.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from pretrain import registry
from pretrain.config import Config
from pretrain.errors import UserError

if TYPE_CHECKING:
    import torch

WARM_UP = 3
MIB = 2**20


@dataclass(frozen=True)
class Memory:
    """Of one process, in MiB.

    Attributes:
        peak: most that was resident in the host's memory.
        before_model: resident before the model was built; imports, above all.
        device_peak: most that torch had allocated on the GPU; None on a CPU.
    """

    peak: float
    before_model: float
    device_peak: float | None


def resident(field: str) -> float:
    """VmRSS (now) or VmHWM (most so far) of this process in MiB.

    Not `getrusage`, whose maximum a process takes over from the one that started it.
    """
    with open("/proc/self/status") as lines:
        for line in lines:
            if line.startswith(f"{field}:"):
                return round(int(line.split()[1]) / 1024, 1)
    raise UserError(f"/proc/self/status has no {field}")


class Orders:
    """A side's end: warms up, then times as many steps as it is told, until it is told none.

    Args:
        pipe: to the process that asks.
        warm_up: steps before the first answer.
    """

    def __init__(self, pipe: Connection, warm_up: int = WARM_UP) -> None:
        self.pipe = pipe
        self.cuda = False
        self.steps = self.left = warm_up
        self.before_model = resident("VmRSS")
        self._start()

    def model_follows(self, device: torch.device) -> None:
        """Everything is imported; what memory comes on top is the model's and its training's."""
        self.cuda = device.type == "cuda"
        self.before_model = resident("VmRSS")

    def step_done(self) -> bool:
        """Whether another step is wanted. At the end of a turn it answers and waits."""
        import torch

        self.left -= 1
        if self.left > 0:
            return True
        if self.cuda:
            torch.cuda.synchronize()
        wall = time.perf_counter() - self.started
        cpu = time.process_time() - self.cpu_started
        self.pipe.send((wall / self.steps, cpu / self.steps))
        self.steps = self.left = self.pipe.recv()
        if not self.steps:
            self.pipe.send(self._memory())
            return False
        self._start()
        return True

    def _start(self) -> None:
        self.started, self.cpu_started = time.perf_counter(), time.process_time()

    def serve(self, step: Callable[[], object]) -> None:
        """Call `step` as often as is wanted."""
        step()
        while self.step_done():
            step()

    def _memory(self) -> Memory:
        import torch

        device = round(torch.cuda.max_memory_allocated() / MIB, 1) if self.cuda else None
        return Memory(resident("VmHWM"), self.before_model, device)


@dataclass(frozen=True)
class Trainer:
    """A function that trains by a configuration, imported by the process that calls it alone.

    Attributes:
        entry: `module:function`.
        options: arguments of it beside the configuration and the orders.
    """

    entry: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, config: Config, orders: Orders) -> None:
        """Train as `config` says until `orders` want no more steps."""
        registry.load(self.entry)(config, orders, **self.options)


Run = Callable[[Orders], None]
"""Trains until told to stop; a function or partial that can be sent to another process."""


@dataclass(frozen=True)
class Side:
    """What takes part: one process, or several that train together.

    Attributes:
        runs: one for each process, with the environment that the process gets.
    """

    runs: Sequence[tuple[Run, Mapping[str, str]]]


class Contest:
    """Sides that have warmed up and wait for their turn.

    Attributes:
        cpu: seconds of all cores together per step, in each turn that a side had. What else the
            machine does changes them less than the seconds that went by.
    """

    def __init__(self, pipes: Mapping[str, list[Connection]]) -> None:
        self.pipes = pipes
        self.cpu: dict[str, list[float]] = {name: [] for name in pipes}

    def turn(self, name: str, steps: int) -> float:
        """Seconds per step of the side's slowest process.

        Raises:
            UserError: a process ended early.
        """
        for pipe in self.pipes[name]:
            pipe.send(steps)
        wall, cpu = zip(*(_answer(name, pipe) for pipe in self.pipes[name]), strict=True)
        self.cpu[name].append(sum(cpu))
        return float(max(wall))

    def end(self) -> dict[str, list[Memory]]:
        """Stop all; the memory of each process of each side."""
        memory: dict[str, list[Memory]] = {}
        for name, pipes in self.pipes.items():
            for pipe in pipes:
                pipe.send(0)
            memory[name] = [_answer(name, pipe) for pipe in pipes]
        return memory


def _answer(name: str, pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except EOFError:
        raise UserError(f"a process of {name} ended early; its error stands above") from None


def _process(run: Run, environment: Mapping[str, str], pipe: Connection) -> None:
    os.environ.update(environment)
    run(Orders(pipe))


@contextmanager
def contest(sides: Mapping[str, Side]) -> Iterator[Contest]:
    """Start all sides, each once the one before it is warm; they end with the context.

    Raises:
        UserError: a process ended early.
    """
    spawn = multiprocessing.get_context("spawn")
    processes = []
    pipes: dict[str, list[Connection]] = {}
    try:
        for name, side in sides.items():
            pipes[name] = []
            for run, environment in side.runs:
                here, there = spawn.Pipe()
                process = spawn.Process(target=_process, args=(run, environment, there))
                process.start()
                there.close()
                processes.append(process)
                pipes[name].append(here)
            for pipe in pipes[name]:
                _answer(name, pipe)
        yield Contest(pipes)
        for process in processes:
            process.join(30)
    finally:
        for process in processes:
            process.kill()
            process.join()


def missing(packages: Sequence[str]) -> list[str]:
    """Those that are not installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]
