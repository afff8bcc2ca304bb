"""A rank that dies or stalls ends the job within a stated time, and is named.

A thread of each rank says every few seconds where the rank stands, through the store that the
processes have met at, and the first rank reads what all say. Nothing of it touches the step: where
a rank stands is taken from spans (pretrain.spans). What all say is in `ranks.json` of the run too.
"""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from pretrain import spans
from pretrain.config import RunConfig
from pretrain.distributed.topology import Topology, own_store
from pretrain.files import json_text, write_text
from pretrain.run_files import RANKS
from pretrain.training.callbacks import Callback
from pretrain.training.health.liveness import DONE, Beat, Limits, Problem, Watch, from_json, listed

LOST = 74
"""Exit code of a job that lost a rank, or in which one stands still: EX_IOERR of sysexits.h. The
same command goes on from the last checkpoint."""
STAGGERED_RANKS = 512
"""Beats per second that the store takes at the most."""
SAMPLES = 16
WARN_SECONDS = 600.0
SLOW_BEATS = 30
"""For so many beats a rank has to be slow before it is told of."""
_END = "end"


class Pulse:
    """Where this process stands, as its main thread's spans tell."""

    def __init__(self, device: torch.device) -> None:
        self.step = 0
        self.operation = "start"
        self.ticks = 0
        self.failed = ""
        self._device = device
        self._main = threading.get_ident()
        self._begun: Any = None
        self._ended: Any = None
        self._forward: deque[float] = deque(maxlen=SAMPLES)
        self._sampled = False

    def entered(self, name: str) -> None:
        """A span begins."""
        if threading.get_ident() != self._main:
            return
        self.operation = name
        self.ticks += 1
        if name == "forward" and not self._sampled:
            self._begun = self._now()

    def left(self, name: str) -> None:
        """A span ends."""
        if threading.get_ident() != self._main:
            return
        self.operation = "between steps"
        if name == "forward" and not self._sampled:
            self._sampled = True
            self._ended = self._now()

    def tick(self) -> None:
        """What is under way gets on."""
        if threading.get_ident() == self._main:
            self.ticks += 1

    def stepped(self, step: int) -> None:
        """A step is done; the first forward pass of the next is timed."""
        self.step = step
        self.ticks += 1
        self._collect()

    def _collect(self) -> None:
        """Take in the last timing, if the device has got there; waits for nothing."""
        if self._ended is None:
            return
        if isinstance(self._ended, float):
            self._forward.append(self._ended - self._begun)
        elif self._ended.query():
            self._forward.append(self._begun.elapsed_time(self._ended) / 1000.0)
        else:
            return
        self._begun = self._ended = None
        self._sampled = False

    def _now(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @property
    def forward_seconds(self) -> float | None:
        """A micro-batch's forward pass, median of the last samples."""
        samples = list(self._forward)
        return median(samples) if samples else None


class Heartbeat(Callback):
    """The thread of this rank.

    Args:
        settings: `run` of the configuration.
        topology: who there is.
        directory: of the run.
        interval: seconds between two beats.
    """

    def __init__(
        self, settings: RunConfig, topology: Topology, directory: Path, interval: float = 1.0
    ) -> None:
        ranks = topology.ranks
        self.rank, self.size = ranks.rank, ranks.world_size
        self.stage = topology.pipeline.rank
        self.directory = directory
        self.interval = max(interval, self.size / STAGGERED_RANKS)
        self.factor = settings.straggler_factor
        limits = Limits(
            settings.silence_seconds, settings.timeout_seconds, settings.start_timeout_seconds
        )
        self.watch = Watch(limits)
        self.pulse = Pulse(topology.device)
        self.number = 0
        self._host = socket.gethostname()
        self._store = own_store("heartbeat") if self.size > 1 else None
        self._stop = threading.Event()
        self._warned = -WARN_SECONDS
        self._unreachable_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """While inside, this rank is watched, and watches the others.

        An error of communication inside ends the process with exit code LOST, once it is known who
        is gone.
        """
        self._say()
        if self.size > 1:
            dist.barrier()  # from here on everybody has said something
        spans.watch(self.pulse)
        self._thread.start()
        try:
            yield
        except BaseException as error:
            if self.size > 1 and is_communication(error):
                self._lost(error)
            self.pulse.failed = f"{type(error).__name__}: {error}"
            raise
        finally:
            spans.watch(None)
            self._stop.set()
            self._thread.join()
            self.pulse.operation = DONE
            self._say()
            if self.rank == 0:
                self._report(time.monotonic())

    def begin(self, step: int) -> None:
        """Steps that the run goes on from are done."""
        self.pulse.step = self.watch.first_step = step

    def on_step(self, step: int) -> None:
        self.pulse.stepped(step)

    # In the thread

    def _run(self) -> None:
        while not self._stop.wait(self.interval):
            try:
                self._say()
                self._hear()
                self._unreachable_since = None
            except (RuntimeError, OSError) as error:  # the store's host is gone, or slow
                self._without_store(error)

    def _say(self) -> None:
        self.number += 1
        pulse = self.pulse
        beat = Beat(
            self.number, self.rank, self._host, os.getpid(), self.stage, pulse.step,
            pulse.operation, pulse.ticks, pulse.forward_seconds, pulse.failed,
        )  # fmt: skip
        if self.rank == 0:
            self.watch.observe([beat], time.monotonic())
        if self._store is None:
            return
        try:
            self._store.set(f"beat/{self.rank}", beat.to_json())
        except (RuntimeError, OSError):
            if pulse.operation != DONE:  # the first rank, done before, has taken the store along
                raise

    def _hear(self) -> None:
        now = time.monotonic()
        if self._store is not None:
            if self._store.check([_END]):
                told = json.loads(self._store.get(_END))
                self._end(Problem(told["message"], tuple(told["ranks"])))
            heard = range(self.size) if self.rank == 0 else range(1)
            beats = self._store.multi_get([f"beat/{rank}" for rank in heard])
            self.watch.observe((from_json(beat.decode()) for beat in beats), now)
        problem = self.watch.problem(now) if self.rank == 0 else self.watch.gone(now)
        if problem is not None:
            self._tell(problem)
        if self.rank == 0:
            self._report(now)

    def _without_store(self, error: Exception) -> None:
        now = time.monotonic()
        first = self.watch.beats.get(0)
        if first is not None and first.operation == DONE:
            self._stop.set()
            return
        if self._unreachable_since is None:
            self._unreachable_since = now
        silence = self.watch.limits.silence
        if now - self._unreachable_since > silence:
            where = str(first) if first else "the first rank"
            message = f"the store cannot be reached for {silence:g} s, and with it {where}: {error}"
            self._tell(Problem(message, (0,)))

    def _report(self, now: float) -> None:
        """ranks.json, and a warning of slow ranks now and then."""
        stragglers = self.watch.stragglers(self.factor, now, SLOW_BEATS * self.interval)
        values = {
            "time": time.time(),
            "interval": self.interval,
            "ranks": [
                {
                    "rank": beat.rank,
                    "host": beat.host,
                    "pid": beat.pid,
                    "stage": beat.stage,
                    "step": beat.step,
                    "operation": beat.operation,
                    "seconds_still": round(self.watch.seconds_still(rank, now), 1),
                    "seconds_silent": round(self.watch.seconds_silent(rank, now), 1),
                    "forward_seconds": beat.forward_seconds,
                    "failed": beat.failed,
                }
                for rank, beat in sorted(self.watch.beats.items())
            ],
            "stragglers": [
                {"rank": slow.beat.rank, "host": slow.beat.host, "times": round(slow.times, 2)}
                for slow in stragglers
            ],
        }
        # A folder that is full or gone is the checkpoints' business.
        with suppress(OSError):
            write_text(self.directory / RANKS, json_text(values))
        if stragglers and now - self._warned > WARN_SECONDS:
            self._warned = now
            for slow in stragglers:
                _print(f"warning: {slow}")

    def _tell(self, problem: Problem) -> NoReturn:
        """Say what the problem is, to people and to the other ranks, and end this process."""
        if self._store is not None:
            with suppress(RuntimeError, OSError):
                self._store.set(_END, json.dumps(asdict(problem)))
        _print(f"error: {problem.message}")
        if self.rank == 0:
            time.sleep(2 * self.interval)  # the store is in this process
        self._end(problem)

    def _end(self, problem: Problem) -> NoReturn:
        """End this process, and show where it stands if it is the reason."""
        if self.rank in problem.ranks:
            _print(f"rank {self.rank} stands here:")
            faulthandler.dump_traceback(all_threads=True)
        _leave()

    # In the main thread

    def _lost(self, error: BaseException) -> NoReturn:
        """Wait until it shows who does not say anything any more, and end."""
        self.pulse.operation = f"{self.pulse.operation} (lost contact)"
        time.sleep(3.5 * self.interval)
        self._stop.set()
        beats = self.watch.beats
        now = time.monotonic()
        gone = [beat for beat in beats.values() if beat.failed]
        gone = gone or self.watch.silent(now, 2.5 * self.interval)
        if self._unreachable_since is not None and not gone:
            gone = [beats[0]] if 0 in beats else []
        if self.rank == 0 or any(beat.rank == 0 for beat in gone):
            step = self.pulse.step + 1
            whom = f"{listed(gone)} is gone" if gone else "all other ranks are still there"
            why = f" ({gone[0].failed})" if gone and gone[0].failed else ""
            _print(
                f"error: rank {self.rank} on {self._host} lost contact in step {step:,}: "
                f"{whom}{why}. What it met: {str(error).splitlines()[0]}"
            )
        _leave()


def is_communication(error: BaseException) -> bool:
    """Whether an error comes from talking to other processes."""
    if isinstance(error, dist.DistError):
        return True
    told = str(error)
    names = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
    return isinstance(error, RuntimeError) and any(name in told for name in names)


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _leave() -> NoReturn:
    """Without waiting for anything: other threads may be stuck in a call that never returns."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(LOST)
