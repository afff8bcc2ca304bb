"""A check of all nodes before training starts; one process per task of the job.

    srun python -m launcher.preflight --seconds 180

Every rank starts, multiplies matrices on its device, exchanges data with the same rank of the nodes
beside it, and takes part in an all-reduce. The first rank prints versions, devices and interfaces,
names nodes that are slow, and, when the time is over, those that did not get as far as the others.
The command ends within the time that is given plus GRACE seconds, whatever the nodes do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import psutil

from launcher.environment import environment, node_name
from pretrain.console import take_all_characters
from pretrain.distributed.ranks import Ranks, discover, rendezvous_address
from pretrain.errors import UserError
from pretrain.files import json_text

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

GRACE = 10.0
STAGES = (
    "start Python",
    "reach the first node",
    "multiply matrices",
    "exchange data",
    "all-reduce",
)
FACTOR = 3.0
"""A node is slow that takes so many times the median."""
FLOOR = 0.02
"""Seconds below which nothing is called slow."""


@dataclass(frozen=True)
class Times:
    """Seconds that one rank took: to start, to multiply, to exchange with each neighbour."""

    node: str
    start: float
    multiply: float
    exchange: tuple[float, ...] = ()
    all_reduce: float = 0.0


def neighbours(position: int, count: int) -> list[int]:
    """Partners of `position` in a ring of `count`, in two rounds of disjoint pairs.

    Each is -1 where the number is odd and one is left over.
    """
    if count < 2:
        return []
    paired = count - count % 2
    first = position ^ 1 if position < paired else -1
    if count == 2:
        return [first]
    shifted = (position - 1) % count
    second = ((shifted ^ 1) + 1) % count if shifted < paired else -1
    return [first, second]


def slow(seconds: Mapping[str, float], factor: float = FACTOR, floor: float = FLOOR) -> list[str]:
    """Nodes that take more than `factor` times the median and more than `floor` seconds."""
    if len(seconds) < 3:  # of two, nobody knows which one is usual
        return []
    usual = statistics.median(seconds.values())
    return [node for node, value in seconds.items() if value > max(factor * usual, floor)]


def verdicts(times: Sequence[Times]) -> list[str]:
    """A line for each node that is slow in something."""
    measures: dict[str, Callable[[Times], float]] = {
        "start Python (file system?)": lambda rank: rank.start,
        "multiply matrices": lambda rank: rank.multiply,
        # A node beside a slow one is slow with that one only.
        "exchange data": lambda rank: min(rank.exchange, default=0.0),
    }
    lines = []
    for what, measure in measures.items():
        by_node: dict[str, float] = {}
        for rank in times:
            by_node[rank.node] = max(by_node.get(rank.node, 0.0), measure(rank))
        usual = statistics.median(by_node.values())
        floor = 10.0 if measure is measures["start Python (file system?)"] else FLOOR
        lines += [
            f"warning: node {node} takes {by_node[node]:.2f} s to {what}, the median {usual:.2f} s"
            for node in slow(by_node, floor=floor)
        ]
    return lines


def laggards(stages: Sequence[int], nodes: Sequence[str]) -> str:
    """Names the ranks that got least far.

    Args:
        stages: of each rank, how many of STAGES it has passed.
        nodes: of each rank.
    """
    least = min(stages)
    late = [rank for rank, stage in enumerate(stages) if stage == least]
    where: dict[str, list[int]] = {}
    for rank in late:
        where.setdefault(nodes[rank], []).append(rank)
    named = "; ".join(
        f"node {node} (rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))})"
        for node, ranks in where.items()
    )
    return f"did not {STAGES[max(1, least)]}: {named}"


def node_of(rank: int, ranks: Ranks, known: Sequence[str]) -> str:
    """Node that a rank is expected on, where nodes have equally many."""
    per_node = max(1, ranks.local_world_size)
    return known[rank // per_node] if rank // per_node < len(known) else f"of rank {rank}"


class Check:
    """The check of one rank.

    Args:
        seconds: until it gives up.
    """

    def __init__(self, ranks: Ranks, seconds: float) -> None:
        from pretrain.distributed.topology import pick_device

        self.ranks = ranks
        self.end = time.monotonic() + seconds
        self.seconds = seconds
        self.reached = False
        self.device = pick_device("auto", ranks)
        self.cuda = self.device.type == "cuda"
        self.nodes = [name for name in os.environ.get("MIFIRST_NODES", "").split(",") if name]

    @property
    def _name(self) -> str:
        return f"node {node_name()} (rank {self.ranks.rank})"

    @property
    def left(self) -> timedelta:
        """Time until it gives up."""
        return timedelta(seconds=max(0.1, self.end - time.monotonic()))

    def run(self) -> int:
        """Check, print on the first rank. Returns the exit code."""
        import torch.distributed as dist

        started = time.time() - psutil.Process().create_time()
        address = rendezvous_address(self.ranks)
        if address is None:
            times = Times(node_name(), started, self._multiply())
            self._print({node_name(): environment()}, [times])
            return 0
        host, _, port = address.rpartition(":")
        self.host, self.port = host, int(port)
        self._watch()
        try:
            store = self._store(self.ranks.rank == 0)
            self.reached = True
            return self._together(store, started)
        except dist.DistError as error:
            # Towards the end, these only tell that somebody has given up.
            if self.left.total_seconds() > 1.0:
                print(f"error: {self._name}: {str(error).splitlines()[0]}", flush=True)
                return 1
            time.sleep(GRACE)  # the watch ends this process
            return 1

    def _store(self, first: bool) -> dist.TCPStore:
        import torch.distributed as dist

        return dist.TCPStore(
            self.host, self.port, is_master=first, timeout=self.left, wait_for_workers=False
        )

    def _watch(self) -> None:
        """End this process when the time is over, with names on the first rank."""

        def over() -> None:
            if self.ranks.rank == 0:
                print(f"error: after {self.seconds:.0f} s, these {self._late()}", flush=True)
            elif not self.reached and self.ranks.local_rank == 0:
                print(
                    f"error: {self._name} did not reach the first node at {self.host}:{self.port} "
                    f"within {self.seconds:.0f} s",
                    flush=True,
                )
            os._exit(1)

        patience = self.seconds + (0.0 if self.ranks.rank == 0 else GRACE / 2)
        timer = threading.Timer(patience, over)
        timer.daemon = True
        timer.start()

    def _late(self) -> str:
        """Asked by a client of its own: the main thread may be inside of the other one."""
        store = self._store(False)
        world = range(self.ranks.world_size)
        stages, nodes = [], []
        for rank in world:
            known = store.check([f"stage/{rank}"])
            stages.append(int(store.get(f"stage/{rank}")) if known else 0)
            nodes.append(
                store.get(f"node/{rank}").decode()
                if known
                else node_of(rank, self.ranks, self.nodes)
            )
        return laggards(stages, nodes)

    def _together(self, store: dist.TCPStore, started: float) -> int:
        import torch.distributed as dist

        rank, world = self.ranks.rank, self.ranks.world_size

        def passed(stage: int) -> None:
            store.set(f"stage/{rank}", str(stage))

        store.set(f"node/{rank}", node_name())
        store.set(f"environment/{rank}", json_text(environment()))
        passed(2)
        multiply = self._multiply()
        passed(3)
        # Nobody starts a collective before all are there: the time-out names who is not.
        store.wait([f"environment/{other}" for other in range(world)], self.left)
        dist.init_process_group(
            "nccl" if self.cuda else "gloo",
            store=dist.PrefixStore("group", store),
            rank=rank,
            world_size=world,
            timeout=self.left + timedelta(seconds=GRACE),
        )
        exchange = self._exchange()
        passed(4)
        times = Times(node_name(), started, multiply, exchange, self._all_reduce())
        store.set(f"times/{rank}", json_text(asdict(times)))
        passed(5)
        if rank == 0:
            store.wait([f"times/{other}" for other in range(world)], self.left)
            everyone = [Times(**json.loads(store.get(f"times/{other}"))) for other in range(world)]
            found = {
                times.node: json.loads(store.get(f"environment/{other}"))
                for other, times in enumerate(everyone)
            }
            self._print(found, everyone)
            store.set("over", "")
        else:
            store.wait(["over"], self.left + timedelta(seconds=GRACE / 2))
        dist.destroy_process_group()
        return 0

    def _timed(self, work: Callable[[], object], rounds: int) -> float:
        """Seconds of the fastest round after one that warms up."""
        import torch

        best = float("inf")
        for number in range(rounds + 1):
            started = time.perf_counter()
            work()
            if self.cuda:
                torch.cuda.synchronize(self.device)
            if number:
                best = min(best, time.perf_counter() - started)
        return best

    def _multiply(self) -> float:
        import torch

        if self.cuda:
            torch.cuda.set_device(self.device)
        matrix = torch.ones(8192 if self.cuda else 512, 8192 if self.cuda else 512).to(self.device)
        return self._timed(lambda: matrix @ matrix, 3)

    def _buffer(self) -> torch.Tensor:
        import torch

        return torch.ones((64 if self.cuda else 1) * 2**20, device=self.device)

    def _exchange(self) -> tuple[float, ...]:
        """Seconds with each neighbour: the same local rank of the nodes beside this one."""
        import torch.distributed as dist

        ranks = self.ranks
        alone = ranks.world_size == ranks.local_world_size
        unit = 1 if alone or ranks.world_size % ranks.local_world_size else ranks.local_world_size
        position, offset = divmod(ranks.rank, unit)
        found = []
        for partner in neighbours(position, ranks.world_size // unit):
            if partner < 0:
                continue
            other = partner * unit + offset
            sent, received = self._buffer(), self._buffer()

            def swap(other: int = other, sent: torch.Tensor = sent,
                     received: torch.Tensor = received) -> None:  # fmt: skip
                for work in dist.batch_isend_irecv(
                    [dist.P2POp(dist.isend, sent, other), dist.P2POp(dist.irecv, received, other)]
                ):
                    work.wait()

            found.append(self._timed(swap, 2))
        return tuple(found)

    def _all_reduce(self) -> float:
        import torch.distributed as dist

        buffer = self._buffer()
        return self._timed(lambda: dist.all_reduce(buffer), 3)

    def _print(self, found: Mapping[str, dict[str, str]], times: Sequence[Times]) -> None:
        for line in report(found):
            print(line)
        if len(times) > 1:
            size = self._buffer().nbytes
            slowest = max(rank.all_reduce for rank in times)
            bus = 2 * (len(times) - 1) / len(times) * size / slowest / 1e9
            print(
                f"all-reduce  {size / 2**20:.0f} MiB over {len(times)} ranks in "
                f"{1e3 * slowest:.1f} ms, {bus:.2f} GB/s of each rank"
            )
        print("\n".join(verdicts(times) or ["nodes       all answer"]), flush=True)


def report(found: Mapping[str, dict[str, str]]) -> list[str]:
    """Lines on what nodes run on; what differs between nodes is listed with their names."""
    lines = []
    for subject in next(iter(found.values())):
        by_value: dict[str, list[str]] = {}
        for node, entries in found.items():
            by_value.setdefault(entries[subject], []).append(node)
        if len(by_value) > 1 and subject == "versions":
            lines.append("warning: nodes have different versions")
        for value, nodes in by_value.items():
            where = f" ({', '.join(nodes)})" if len(by_value) > 1 else ""
            if value:
                lines.append(f"{subject:<12}{value}{where}")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Check. Returns the exit code: 0 where all ranks took part, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m launcher.preflight", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=180.0, help="time until it gives up")
    options = parser.parse_args(argv)
    try:
        return Check(discover(), options.seconds).run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    take_all_characters()
    code = main()
    sys.stdout.flush()
    os._exit(code)  # threads of a group whose members are gone must not hold this up
