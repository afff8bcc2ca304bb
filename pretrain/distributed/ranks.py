"""Which process of the job this is, read from what the launcher left in the environment.

Understood: torchrun and deepspeed (RANK ...), OpenMPI (OMPI_COMM_WORLD_RANK ...), MPICH, Intel MPI,
Cray PALS and MVAPICH2 (PMI_RANK ...), srun (SLURM_PROCID ...), and nothing at all: one process.

A launcher inside of another leaves both one's variables, and the inner one's count: torchrun or
deepspeed started once per task of srun or mpirun, mpirun whose daemons srun started. Two that agree
are fine as well. Anything else would train several models into one folder, and is refused.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pretrain.errors import UserError

_LAUNCHERS = (
    # launcher, rank, world size, variable that must be there too
    ("torchrun", "RANK", "WORLD_SIZE", "MASTER_ADDR"),
    ("openmpi", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("mpich", "PMI_RANK", "PMI_SIZE", "PMI_SIZE"),
    # SLURM_STEP_ID is set by srun only: a batch script's own process is not a rank.
    ("srun", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_ID"),
)  # fmt: skip
"""From the innermost to the outermost."""
_PLACES = {
    "torchrun": (("LOCAL_RANK",), ("LOCAL_WORLD_SIZE", "LOCAL_SIZE")),
    "openmpi": (("OMPI_COMM_WORLD_LOCAL_RANK",), ("OMPI_COMM_WORLD_LOCAL_SIZE",)),
    "mpich": (
        ("MPI_LOCALRANKID", "PMI_LOCAL_RANK", "PALS_LOCAL_RANKID", "MV2_COMM_WORLD_LOCAL_RANK"),
        ("MPI_LOCALNRANKS", "PMI_LOCAL_SIZE", "PALS_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE"),
    ),
    "srun": (("SLURM_LOCALID",), ()),
}
"""Variables that hold a rank's number on its host, and how many there are."""
_AGENTS = ("GROUP_WORLD_SIZE", "CROSS_SIZE")
"""How many processes of torchrun, of deepspeed, were started."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of the job."""

    launcher: str
    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    placed: bool = field(default=True, compare=False)
    """Whether the launcher says the place on the host; where it does not, these are guesses until
    the processes have met."""


def _whole(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except ValueError:
        raise UserError(
            f"environment variable {name} is {environment[name]!r}, expected a whole number; "
            "start the job through one launcher only"
        ) from None


def discover(environment: Mapping[str, str] | None = None) -> Ranks:
    """Find out rank and world size.

    Raises:
        UserError: a variable is no number, a launcher has set only part of them, or two launchers
            disagree.
    """
    env = os.environ if environment is None else environment
    found = [
        _of(env, *names)
        for names in _LAUNCHERS
        if names[1] in env and names[-1] in env  # rank and marker
    ]
    if not found:
        if "RANK" in env and env.get("WORLD_SIZE", "1") != "1":
            raise UserError(
                f"RANK={env['RANK']} and WORLD_SIZE={env['WORLD_SIZE']} are set but MASTER_ADDR is "
                "not; start through torchrun, deepspeed, mpirun or srun, or unset RANK to run one "
                "process"
            )
        return Ranks("none", 0, 1, 0, 1)
    inner = found[0]
    for outer in found[1:]:
        _check_nested(env, inner, outer)
    if [ranks.launcher for ranks in found] == ["mpich", "srun"] and _same(*found):
        return found[1]  # srun --mpi=pmi2 sets PMI_RANK too, and no mpirun is there
    return inner


def _of(env: Mapping[str, str], launcher: str, rank: str, world: str, marker: str) -> Ranks:
    """What one launcher says."""
    if world not in env:
        raise UserError(
            f"{rank} is set but {world} is not; unset {rank} to run one process, or start "
            "through torchrun, deepspeed, mpirun or srun"
        )
    found = _whole(env, rank), _whole(env, world)
    if not 0 <= found[0] < found[1]:
        raise UserError(f"{rank}={found[0]} does not fit {world}={found[1]}")
    locals_, sizes = (_first(env, names) for names in _PLACES[launcher])
    local_rank = found[0] if locals_ is None else _whole(env, locals_)
    if sizes is not None:
        local_size = _whole(env, sizes)
    elif launcher == "srun":
        # "2(x3),1" lists tasks per node; the first entry serves until the processes have met.
        tasks = env.get("SLURM_STEP_TASKS_PER_NODE", env.get("SLURM_TASKS_PER_NODE", "1"))
        local_size = int(tasks.split("(")[0].split(",")[0])
    else:
        local_size = found[1]
    return Ranks(launcher, *found, local_rank, local_size, placed=locals_ is not None)


def _first(env: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in env), None)


def left_over(ranks: Ranks) -> str:
    """The way out where this process waits for others that nobody has started."""
    rank = {names[0]: names[1] for names in _LAUNCHERS}.get(ranks.launcher, "RANK")
    start = {
        "torchrun": "torchrun or deepspeed", "openmpi": "mpirun", "mpich": "mpirun",
        "srun": "srun python ...",
    }.get(ranks.launcher, "a launcher")  # fmt: skip
    return (
        f"start all {ranks.world_size} through {start}, or, in a shell that {rank} is left over "
        f"in{' (srun --pty bash)' * (ranks.launcher == 'srun')}, unset {rank} to run one process"
    )


def without_launcher(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what launchers tell their ranks, for programs that this one starts and
    that are ranks of other jobs, or of none."""
    prefixes = ("OMPI_", "PMI_", "PMIX_", "PRTE_", "PALS_", "MV2_COMM_", "TORCHELASTIC_")
    names = {
        *(name for names in _LAUNCHERS for name in names[1:]), *_AGENTS, "MASTER_PORT",
        *(name for both in _PLACES.values() for names in both for name in names),
        "GROUP_RANK", "ROLE_RANK", "ROLE_WORLD_SIZE", "CROSS_RANK",
    }  # fmt: skip
    kept = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_MCA_", "PRTE_MCA_", "PMIX_MCA_")
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(kept) or (name not in names and not name.startswith(prefixes))
    }


def _same(one: Ranks, other: Ranks) -> bool:
    return (one.rank, one.world_size) == (other.rank, other.world_size)


def _check_nested(env: Mapping[str, str], inner: Ranks, outer: Ranks) -> None:
    """Refuse two launchers that are not one inside of the other.

    Raises:
        UserError: names what each says.
    """
    if _same(inner, outer):
        return
    if inner.launcher == "torchrun":
        # One torchrun or deepspeed per task of the outer one.
        if any(_whole(env, name) == outer.world_size for name in _AGENTS if name in env):
            return
    elif outer.launcher == "srun" and outer.world_size <= inner.world_size:
        return  # mpirun's daemons are tasks of srun
    rank_of = {names[0]: names[1:3] for names in _LAUNCHERS}

    def says(ranks: Ranks) -> str:
        rank, world = rank_of[ranks.launcher]
        return f"{ranks.launcher} says {rank}={ranks.rank} of {world}={ranks.world_size}"

    raise UserError(
        f"two launchers disagree: {says(inner)}, {says(outer)}; start the job through one of them "
        f"(one {inner.launcher} per node under {outer.launcher} is fine), or unset "
        f"{rank_of[inner.launcher][0]} where it is left over"
    )


def free_port() -> int:
    """A free port below those that the system hands out by itself, so that it stays free."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port


def rendezvous_address(ranks: Ranks, environment: Mapping[str, str] | None = None) -> str | None:
    """Address at which the processes meet, as `host:port`; None for one process.

    MASTER_ADDR and MASTER_PORT count where they are set, as torchrun and deepspeed do; under MPI
    the first rank draws a free port and broadcasts it (mpi4py); under srun it follows from the
    node list and the job's number (the batch scripts of launcher/slurm set MASTER_ADDR and look for
    a port that is free).

    Raises:
        UserError: mpi4py or its MPI library is missing under mpirun.
    """
    env = os.environ if environment is None else environment
    if ranks.world_size == 1:
        return None
    if "MASTER_ADDR" in env and "MASTER_PORT" in env:
        return f"{env['MASTER_ADDR']}:{env['MASTER_PORT']}"
    if ranks.launcher in ("openmpi", "mpich"):
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            raise UserError(
                f"started under {ranks.launcher}, but mpi4py cannot load its MPI library "
                f"({error}); install one (Debian: openmpi-bin), or use torchrun or deepspeed"
            ) from error
        world = MPI.COMM_WORLD
        if world.Get_size() == 1:
            raise UserError(
                f"{ranks.launcher} says {ranks.world_size} processes, and this one is alone: "
                f"{left_over(ranks)}; under mpirun, mpirun and mpi4py belong to different MPI "
                f"libraries ({MPI.Get_library_version().split(',')[0]} is mpi4py's)"
            )
        if world.Get_size() != ranks.world_size:
            raise UserError(
                f"{ranks.launcher} says {ranks.world_size} processes, mpi4py's library "
                f"({MPI.Get_library_version().split(',')[0]}) says {world.Get_size()}: mpirun and "
                "mpi4py belong to different MPI libraries; call the mpirun of the same one"
            )
        here = f"{socket.gethostname()}:{free_port()}" if ranks.rank == 0 else None
        return str(world.bcast(here, root=0))
    if ranks.launcher == "srun":
        nodes = env.get("SLURM_STEP_NODELIST", env.get("SLURM_JOB_NODELIST", "localhost"))
        job, step = int(env.get("SLURM_JOB_ID", "0")), int(env.get("SLURM_STEP_ID", "0"))
        return f"{_reachable(_first_host(nodes))}:{20_000 + (job * 97 + step) % 10_000}"
    raise UserError(
        f"{ranks.world_size} processes, but MASTER_ADDR and MASTER_PORT are not set; start "
        "through torchrun, deepspeed, mpirun or srun"
    )


def _first_host(nodes: str) -> str:
    """First host of a SLURM node list such as `n[1-4,7],m3`."""
    head, bracket, rest = nodes.partition("[")
    if "," in head or not bracket:
        return nodes.split(",")[0]
    return head + rest.split("]")[0].split(",")[0].split("-")[0]


def _reachable(node: str) -> str:
    """Host of a node of SLURM's, which may go by a name that only SLURM knows."""
    try:
        socket.getaddrinfo(node, None)
    except OSError:
        try:
            told = subprocess.run(
                ["scontrol", "show", "node", "--oneliner", node],
                capture_output=True, text=True, check=False,
            ).stdout  # fmt: skip
        except OSError:
            return node
        for word in told.split():
            if word.startswith("NodeAddr="):
                return word.removeprefix("NodeAddr=")
    return node
