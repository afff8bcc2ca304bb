"""A real SLURM cluster on this machine, with a munge of its own, in one folder.

Partition `main` has two nodes, and so has `spare`, where one may be killed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pretrain.distributed.ranks import free_port

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
PARTITIONS = {"main": ("n1", "n2"), "spare": ("n3", "n4")}
NODES = tuple(node for nodes in PARTITIONS.values() for node in nodes)
# cred_expire: how long a requeued job waits, two minutes by default. SlurmdTimeout: seconds of
# silence after which a node is down. KillWait: from SIGTERM to SIGKILL.
CONFIGURATION = """\
ClusterName=testing
SlurmctldHost=localhost
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool-%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd-%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
JobSubmitPlugins=lua
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmdTimeout=8
KillWait=20
SlurmdParameters=config_overrides
"""
NODE = (
    "NodeName={name} NodeHostname=localhost Port={port} CPUs=4 Boards=1 SocketsPerBoard=1 "
    "CoresPerSocket=4 ThreadsPerCore=1 RealMemory=20000 State=UNKNOWN\n"
)
PARTITION = "PartitionName={name} Nodes={nodes} Default={default} MaxTime=INFINITE State=UP\n"
# As sites do it that have no accounting database: accounts are checked when a job is submitted.
ACCOUNTS = """\
function slurm_job_submit(job, partitions, user)
    if job.account == nil or job.account == "lab" then
        return slurm.SUCCESS
    end
    return slurm.ESLURM_INVALID_ACCOUNT
end
function slurm_job_modify(job, record, partitions, user)
    return slurm.SUCCESS
end
return slurm.SUCCESS
"""


PATIENCE = 480.0
"""Seconds for what takes one on a machine that does nothing else: below the time of a test."""


def missing() -> list[str]:
    """Commands of SLURM and munge that are not installed."""
    return [name for name in NEEDED if shutil.which(name) is None]


def wait_for(what: str, check: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """The first answer of `check` that is true.

    Raises:
        TimeoutError: there is none in time.
    """
    end = time.monotonic() + seconds
    while not (answer := check()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)
    return answer


class Cluster:
    """Starts on entering, and is gone on leaving, with all that it started.

    Args:
        directory: holds configuration, state, sockets and logs.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(directory / "slurm.conf"),
            "OMP_NUM_THREADS": "1",
            "DS_ACCELERATOR": "cpu",
        }

    def __enter__(self) -> Cluster:
        self._configure()
        try:
            socket = self.directory / "munge.socket"
            self._start(
                "munged", "--foreground", "--force", "--socket", str(socket),
                "--key-file", str(self.directory / "munge.key"),
                "--pid-file", str(self.directory / "munge.pid"),
                "--seed-file", str(self.directory / "munge.seed"),
                "--log-file", str(self.directory / "munge.log"),
            )  # fmt: skip
            wait_for("munged", socket.exists, 20)
            self._start("slurmctld", "-D")
            for node in NODES:
                self.start_node(node)
            wait_for("idle nodes", lambda: self.states() == ["idle"] * len(NODES), 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if "slurmctld" in self.daemons:
            self.run("scancel", "--user", "root", "--signal=KILL", "--full", check=False)
            self.run("scancel", "--user", "root", check=False)
        for name in reversed(list(self.daemons)):
            self._stop(name)
        for process in self.leftovers():
            os.kill(process, 9)

    def _configure(self) -> None:
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.directory / name).mkdir()
        self.directory.chmod(0o755)
        key = self.directory / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        text = CONFIGURATION.format(directory=self.directory, controller=free_port())
        for node in NODES:
            text += NODE.format(name=node, port=free_port())
        for name, nodes in PARTITIONS.items():
            default = "YES" if name == "main" else "NO"
            text += PARTITION.format(name=name, nodes=",".join(nodes), default=default)
        (self.directory / "slurm.conf").write_text(text)
        (self.directory / "job_submit.lua").write_text(ACCOUNTS)

    def _start(self, *command: str) -> None:
        log = open(self.directory / f"{command[0]}-{len(self.daemons)}.out", "wb")  # noqa: SIM115
        name = command[-1] if command[0] == "slurmd" else command[0]
        with log:
            self.daemons[name] = subprocess.Popen(
                command, stdout=log, stderr=log, env=self.environment, start_new_session=True
            )

    def _stop(self, name: str) -> None:
        daemon = self.daemons.pop(name)
        daemon.terminate()
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def start_node(self, node: str) -> None:
        """Start a node's slurmd."""
        self._start("slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """Kill a node's slurmd and all that it started, as a crash does."""
        daemon = self.daemons.pop(node)
        daemon.kill()
        daemon.wait()
        for process in self.leftovers(node):
            os.kill(process, 9)

    def leftovers(self, node: str | None = None) -> list[int]:
        """Processes that this cluster's nodes started."""
        marks = [f"SLURM_CONF={self.directory / 'slurm.conf'}".encode()]
        if node is not None:
            marks.append(f"SLURMD_NODENAME={node}".encode())
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                variables = (path / "environ").read_bytes().split(b"\0")
                name = (path / "comm").read_text().strip()
            except OSError:
                continue
            inside = any(line.startswith(b"SLURM_JOB_ID=") for line in variables)
            if all(mark in variables for mark in marks) and (inside or name == "slurmstepd"):
                found.append(int(path.name))
        return found

    def run(self, *command: str, check: bool = True, **options: Any) -> str:
        """Standard output of a command that sees this cluster."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, **options
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def states(self) -> list[str]:
        """State of each node, as sinfo says it."""
        return self.run("sinfo", "-h", "-N", "-o", "%t", check=False).split()

    def job(self, number: str) -> dict[str, str]:
        """What scontrol says of a job; empty for one that it does not know."""
        text = self.run("scontrol", "show", "job", "-o", number, check=False)
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def until(self, number: str, states: Sequence[str], seconds: float = 180.0) -> dict[str, str]:
        """Wait until a job is in one of these states."""

        def reached() -> dict[str, str] | None:
            job = self.job(number)
            return job if job.get("JobState") in states else None

        found: dict[str, str] = wait_for(f"job {number} {'/'.join(states)}", reached, seconds)
        return found
