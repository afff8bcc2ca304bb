"""Which process this is, from what launchers leave in the environment."""

import pytest

from pretrain.errors import UserError
from pretrain.ranks import Ranks, discover, rendezvous_address

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
        (SRUN, Ranks("srun", 5, 8, 1, 4)),
        # A batch script's own process is not a rank of the job.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, Ranks("none", 0, 1, 0, 1)),
        # torchrun inside an srun step: torchrun counts.
        (SRUN | TORCHRUN, Ranks("torchrun", 3, 8, 1, 2)),
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
def test_the_meeting_point(environment, expected):
    assert rendezvous_address(discover(environment), environment) == expected
