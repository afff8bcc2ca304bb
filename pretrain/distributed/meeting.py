"""Where the processes of a job meet: whoever is missing is named, and each learns who else is on
its host."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from pretrain.distributed.ranks import Ranks, left_over
from pretrain.errors import UserError

SAY_SECONDS = 10.0
"""After so long the first process says who is waited for, and again each time it has doubled."""
FIRST_SECONDS = 60.0
"""After so long others say that the first has not come, which may be reading data."""
NAMED = 8


class MissingRanksError(UserError):
    """Other processes of the job did not come in time; starting it again may help."""

    exit_code = 74


@dataclass(frozen=True)
class Place:
    """Where a process is: rank, host, and the cores that it may use."""

    rank: int
    host: str
    cores: tuple[int, ...]


def here(rank: int) -> Place:
    """The place of this process."""
    return Place(rank, socket.gethostname(), tuple(sorted(os.sched_getaffinity(0))))


def fair_share(mine: Place, others: Sequence[Place]) -> int:
    """Cores for this process: each of those that it may use is divided among the processes of its
    host that may use it too; at least 1.

    What a launcher has dealt out is not divided again: bound to cores of their own, all have them.

    Args:
        others: processes of the same host, this one included or not.
    """
    all_of = [mine, *(place for place in others if place.rank != mine.rank)]
    users = {core: sum(core in place.cores for place in all_of) for core in mine.cores}
    return max(1, int(sum(1 / count for count in users.values()) + 1e-9))


def placed(ranks: Ranks, places: Sequence[Place]) -> Ranks:
    """`ranks` with its place on its host, where its launcher does not say it."""
    local = [place.rank for place in places].index(ranks.rank)
    return replace(
        ranks,
        local_rank=ranks.local_rank if ranks.placed else local,
        local_world_size=len(places),
        placed=True,
    )


def bound(ranks: Ranks, places: Sequence[Place]) -> str:
    """A warning where mpirun has bound the processes of this host to fewer cores than it may use
    itself; empty where it has not."""
    if ranks.launcher not in ("openmpi", "mpich"):
        return ""
    used = {core for place in places for core in place.cores}
    try:
        given = os.sched_getaffinity(os.getppid())
    except OSError:
        return ""
    if len(used) >= len(given):
        return ""
    return (
        f"mpirun has bound {len(places)} process{'es' * (len(places) > 1)} of this host to "
        f"{len(used)} of {len(given)} cores; --bind-to none shares them, --map-by slot:PE=N gives "
        "each N"
    )


def meet(ranks: Ranks, address: str | None, seconds: float) -> tuple[dist.Store, list[Place]]:
    """A store that all processes have reached, and the processes on this host, in order of rank.

    Args:
        address: `host:port` of the first process; None for one process.
        seconds: longest time to wait for the others.

    Raises:
        MissingRanksError: not all came; names them, and the way out.
    """
    mine = here(ranks.rank)
    if address is None:
        return dist.HashStore(), [mine]
    host, _, port = address.rpartition(":")
    return _Meeting(ranks, host, int(port), seconds).store(mine)


def _place(line: str) -> Place:
    values = json.loads(line)
    return Place(values["rank"], values["host"], tuple(values["cores"]))


class _Meeting:
    """The wait of one process for the others."""

    def __init__(self, ranks: Ranks, host: str, port: int, seconds: float) -> None:
        self.ranks, self.host, self.port = ranks, host, port
        self.seconds = seconds
        self.begun = time.monotonic()
        self.said = FIRST_SECONDS if ranks.rank else SAY_SECONDS

    def store(self, mine: Place) -> tuple[dist.Store, list[Place]]:
        store: Any = self._reach()  # `append` is not in the stubs
        try:
            store.append(f"place/{mine.host}", json.dumps(asdict(mine)) + "\n")
            store.set(f"came/{mine.rank}", mine.host)
            self._arrive(store, "come")
            self._wait_for_all(store, "come")
            told = store.get(f"place/{mine.host}").decode().splitlines()
            self._arrive(store, "read")
            if mine.rank == 0:  # it takes the store along: nobody may need an answer after it
                self._wait_for_all(store, "read")
        except dist.DistNetworkError as error:
            raise MissingRanksError(
                f"rank 0 at {self.host}:{self.port} has ended before all processes came; its "
                "output says why"
            ) from error
        places = [_place(line) for line in told]
        return store, sorted(places, key=lambda place: place.rank)

    def _arrive(self, store: dist.Store, what: str) -> None:
        """Say that this process has got here; the last says that all have."""
        if store.add(f"{what}/count", 1) == self.ranks.world_size:
            store.set(f"{what}/all", "")

    def _wait_for_all(self, store: dist.Store, what: str) -> None:
        """Wait until the last process has got here."""
        first = self.ranks.rank == 0
        grace = 0.0 if first else 5.0  # the first process says who is missing, and ends the job
        while True:
            # Until there is something to say: torch writes lines of its own when a wait is over.
            pause = min(self._left(), self._until_said()) if first else self._left(grace)
            try:
                store.wait([f"{what}/all"], timedelta(seconds=pause))
                return
            except dist.DistStoreError:
                ranks = self.ranks.world_size
                self._waited(
                    f"{self._missing(store)} of {ranks} did not come" if first else "", grace
                )

    def _reach(self) -> dist.Store:
        """The store, which the first process holds, or the launcher (torchrun)."""
        agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        first = self.ranks.rank == 0 and not agent
        while True:
            patience = self._left() if first else min(2.0, self._left())
            try:
                reached: dist.Store = dist.TCPStore(
                    self.host, self.port, is_master=first, wait_for_workers=False,
                    timeout=timedelta(seconds=max(0.1, patience)), multi_tenant=True,
                )  # fmt: skip
            except dist.DistError as error:
                if first:
                    raise UserError(
                        f"port {self.port}, at which the processes meet, cannot be opened: "
                        f"{str(error).splitlines()[0]}"
                    ) from error
                self._waited(f"rank 0 does not answer at {self.host}:{self.port}")
                continue
            if agent:
                attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
                reached = dist.PrefixStore(f"/mifirst/attempt_{attempt}", reached)
            return reached

    def _missing(self, store: dist.Store) -> str:
        world = self.ranks.world_size
        missing = [rank for rank in range(world) if not store.check([f"came/{rank}"])]
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        return f"rank{'s' * (len(missing) > 1)} {', '.join(map(str, missing[:NAMED]))}{more}"

    def _left(self, grace: float = 0.0) -> float:
        return max(0.1, self.seconds + grace - (time.monotonic() - self.begun))

    def _until_said(self) -> float:
        return max(0.1, self.said - (time.monotonic() - self.begun))

    def _waited(self, what: str, grace: float = 0.0) -> None:
        """Say what is waited for now and then.

        Raises:
            MissingRanksError: for too long; `grace` seconds later than others.
        """
        waited = time.monotonic() - self.begun
        if waited >= self.seconds + grace:
            raise MissingRanksError(
                f"{what or 'not all processes came'} within {self.seconds:g} s "
                f"(run.start_timeout_seconds); {left_over(self.ranks)}"
            )
        speaks = self.ranks.rank == 0 or self.ranks.local_rank == 0  # one of each host
        if what and speaks and waited >= self.said:
            self.said *= 2.0
            where = f"rank {self.ranks.rank} on {socket.gethostname()}"
            print(f"{where} waits at {self.host}:{self.port}: {what} yet; "
                  f"{left_over(self.ranks)}", file=sys.stderr, flush=True)  # fmt: skip
