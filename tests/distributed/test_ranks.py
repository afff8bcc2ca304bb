"""Which process this is, from what launchers leave in the environment."""

import pytest

from pretrain.distributed.ranks import (
    Ranks,
    discover,
    rendezvous_address,
    without_launcher,
)
from pretrain.errors import UserError

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "n1",
    "MASTER_PORT": "29500",
}
OPENMPI = {
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}
MPICH = {"PMI_RANK": "5", "PMI_SIZE": "8"}
SRUN = {
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_ID": "42",
    "SLURM_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_NODELIST": "gpu[07-08,11],login",
}


@pytest.mark.parametrize(
    "environment,expected",
    [
        ({}, Ranks("none", 0, 1, 0, 1)),
        (TORCHRUN, Ranks("torchrun", 3, 8, 1, 2)),
        (OPENMPI, Ranks("openmpi", 2, 4, 0, 2)),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, Ranks("mpich", 1, 2, 1, 2)),
        # Intel MPI, Cray PALS and MVAPICH2: rank 5 of two nodes of four.
        (MPICH | {"MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "4"}, Ranks("mpich", 5, 8, 1, 4)),
        (
            MPICH | {"PMI_LOCAL_RANK": "1", "PMI_LOCAL_SIZE": "4", "PALS_LOCAL_RANKID": "1"},
            Ranks("mpich", 5, 8, 1, 4),
        ),
        (MPICH | {"PALS_LOCAL_RANKID": "1"}, Ranks("mpich", 5, 8, 1, 8)),
        (
            MPICH | {"MV2_COMM_WORLD_LOCAL_RANK": "1", "MV2_COMM_WORLD_LOCAL_SIZE": "4"},
            Ranks("mpich", 5, 8, 1, 4),
        ),
        (SRUN, Ranks("srun", 5, 8, 1, 4)),
        # A batch script's own process is not a rank of the job.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, Ranks("none", 0, 1, 0, 1)),
        # One torchrun per task of srun, here on four nodes: torchrun counts.
        (
            SRUN | TORCHRUN | {"SLURM_NTASKS": "4", "SLURM_PROCID": "1", "GROUP_WORLD_SIZE": "4"},
            Ranks("torchrun", 3, 8, 1, 2),
        ),
        # One deepspeed per process of mpirun.
        (OPENMPI | TORCHRUN | {"CROSS_SIZE": "4"}, Ranks("torchrun", 3, 8, 1, 2)),
        # A script that sets what torchrun would from what srun says.
        (SRUN | TORCHRUN | {"RANK": "5"}, Ranks("torchrun", 5, 8, 1, 2)),
        # mpirun, whose daemons are two tasks of srun.
        (OPENMPI | SRUN | {"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, Ranks("openmpi", 2, 4, 0, 2)),
        # srun --mpi=pmi2 speaks PMI too: no MPI library is needed.
        (SRUN | {"PMI_RANK": "5", "PMI_SIZE": "8"}, Ranks("srun", 5, 8, 1, 4)),
        (SRUN | {"SLURM_STEP_TASKS_PER_NODE": "2,6"}, Ranks("srun", 5, 8, 1, 2)),
    ],
)
def test_launchers_are_understood(environment, expected):
    assert discover(environment) == expected


@pytest.mark.parametrize(
    "environment,needle",
    [
        (TORCHRUN | {"RANK": "one"}, "RANK is 'one'"),
        (TORCHRUN | {"RANK": "8"}, "RANK=8 does not fit WORLD_SIZE=8"),
        ({"RANK": "0", "MASTER_ADDR": "x"}, "WORLD_SIZE is not"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "are set but MASTER_ADDR is not"),
        # A torchrun of its own in each of srun's tasks.
        (
            SRUN | TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1", "GROUP_WORLD_SIZE": "1"},
            "torchrun says RANK=0 of WORLD_SIZE=1, srun says SLURM_PROCID=5 of SLURM_NTASKS=8",
        ),
        # Left over from a shell.
        (SRUN | TORCHRUN, "two launchers disagree"),
        (OPENMPI | TORCHRUN, "two launchers disagree"),
        # An mpirun of its own in each of srun's tasks.
        (SRUN | OPENMPI, "openmpi says OMPI_COMM_WORLD_RANK=2 of OMPI_COMM_WORLD_SIZE=4, srun"),
    ],
)
def test_a_broken_environment_is_named(environment, needle):
    with pytest.raises(UserError, match=needle):
        discover(environment)


@pytest.mark.parametrize(
    "environment,expected",
    [
        ({}, None),
        (TORCHRUN, "n1:29500"),
        (SRUN, f"gpu07:{20_000 + 42 * 97}"),
        (SRUN | {"SLURM_STEP_NODELIST": "a,b"}, f"a:{20_000 + 42 * 97}"),
    ],
)
def test_the_meeting_point(environment, expected, monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: [])
    assert rendezvous_address(discover(environment), environment) == expected


def test_a_node_that_only_slurm_knows_is_reached_by_its_address(tmp_path, monkeypatch):
    def unknown(*_: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\necho NodeName=$4 Arch=x NodeAddr=10.0.0.7 NodeHostName=h\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    port = 20_000 + 42 * 97
    assert rendezvous_address(discover(SRUN), SRUN) == f"10.0.0.7:{port}"
    scontrol.unlink()
    assert rendezvous_address(discover(SRUN), SRUN) == f"gpu07:{port}"


@pytest.mark.parametrize("left", [TORCHRUN, OPENMPI, SRUN, MPICH | {"PALS_LOCAL_RANKID": "1"}])
def test_a_program_that_is_started_anew_is_no_rank_of_its_parent_s_job(left):
    kept = {"PATH": "/bin", "OMPI_ALLOW_RUN_AS_ROOT": "1", "SLURM_CPUS_PER_TASK": "4"}
    clean = without_launcher({**left, **kept})
    assert discover(clean) == Ranks("none", 0, 1, 0, 1)
    assert kept.items() <= clean.items()


@pytest.mark.parametrize(
    "local_rank,devices,expected", [(2, 1, "cuda:0"), (1, 4, "cuda:1"), (0, 4, "cuda:0")]
)
def test_the_only_device_that_a_process_sees_is_its_own(local_rank, devices, expected, monkeypatch):
    import torch

    from pretrain.distributed import cpu, topology

    monkeypatch.setattr(cpu, "has_cuda", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    ranks = Ranks("srun", local_rank, 8, local_rank, 4)
    assert str(topology.pick_device("auto", ranks)) == expected


def test_two_processes_that_see_one_gpu_are_told_so(monkeypatch):
    import torch
    import torch.distributed as dist

    from pretrain.distributed import topology
    from pretrain.errors import ConfigError

    class Properties:
        uuid = "GPU-7"

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    store, device = dist.HashStore(), torch.device("cuda", 0)
    topology.claim(device, Ranks("srun", 0, 2, 0, 2), store)
    with pytest.raises(ConfigError, match=r"rank 1 on .* sees the GPU GPU-7 that another process"):
        topology.claim(device, Ranks("srun", 1, 2, 1, 2), store)
