"""Jobs on a real SLURM: all of them are submitted at once, and each test looks at one of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.record import Record
from pretrain.distributed.ranks import free_port
from tests.launcher.cluster import PATIENCE, Cluster, wait_for

ROOT = Path(__file__).resolve().parent.parent.parent
MAIN = ROOT / "pretrain" / "main.py"
STEPS = 300
CONFIG = f"""\
model: {{layers: 1, hidden_size: 32, sequence_length: 10}}
training: {{steps: {STEPS}, global_batch: 16, evaluation_examples: 40}}
checkpoint: {{save_every: 50}}
run: {{log_every: 1, tensorboard: false, progress: false, device: cpu}}
"""
TWO_NODES = ("--nodes", "2", "--time", "10", "--preflight-seconds", "0")

pytestmark = [pytest.mark.distributed, pytest.mark.alone]


@dataclass(frozen=True)
class Jobs:
    """A folder in which the cluster's jobs run."""

    cluster: Cluster
    folder: Path

    def launcher(self, *arguments: str, code: int = 0) -> str:
        """Output of `python -m launcher`, which has to end with `code`."""
        done = subprocess.run(
            [sys.executable, "-m", "launcher", *arguments],
            cwd=self.folder,
            env={**self.cluster.environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def submit(self, name: str, *options: str) -> tuple[str, Record]:
        """Number and record of a job that trains into the folder `name`."""
        said = self.launcher("submit", "--config", "config.yaml", "--run.directory", name, *options)
        return said.split()[1], Record(self.folder / name)

    def hold(self, job: str, record: Record, ready: Callable[[], bool] | None = None) -> list[int]:
        """Stop the ranks of a job by SIGSTOP once it has a checkpoint and some steps more, so that
        it is still there when something happens to it. Returns the processes."""

        def trained() -> bool:
            metrics = record.metrics()
            return record.step() >= 50 and metrics is not None and metrics["step"] >= 60

        wait_for(f"steps of job {job}", ready or trained)
        processes = ranks_of(job)
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        assert not record.complete
        return processes

    def ended(self, job: str, *states: str) -> dict[str, str]:
        """What SLURM says of a job that has ended as COMPLETED, or in one of `states`."""
        every = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        found = self.cluster.until(job, every, PATIENCE)
        output = [path.read_text() for path in self.folder.glob(f"**/job-{job}.out")]
        assert found["JobState"] in (states or ("COMPLETED",)), "\n".join(output)
        return found


def ranks_of(job: str) -> list[int]:
    """Processes that train in a job."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            variables = (path / "environ").read_bytes().split(b"\0")
            words = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        # A job runs a copy of the program, made when it was submitted.
        trains = any(word.endswith(b"/pretrain/main.py") for word in words[1:2])
        if f"SLURM_JOB_ID={job}".encode() in variables and trains:
            found.append(int(path.name))
    return found


def output(record: Record) -> str:
    submission = record.submission()
    assert submission is not None
    return Path(submission.output).read_text()


def weights(directory: Path) -> list[bytes]:
    """Files of the last checkpoint."""
    folder = directory / "checkpoints" / f"step-{STEPS:08d}"
    files = sorted(folder.glob("rank-*.safetensors"))
    assert len(files) == 2
    return [file.read_bytes() for file in files]


def losses(directory: Path) -> list[float]:
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def verdicts(record: Record) -> list[str]:
    return [attempt.verdict for attempt in record.attempts()]


# What is done with each job. These run side by side.


def uninterrupted(jobs: Jobs) -> Record:
    job, record = jobs.submit("whole", *TWO_NODES[:4])
    jobs.ended(job)
    return record


def at_wall_time(jobs: Jobs) -> Record:
    # Held for longer than ranks may be silent, if they started fast.
    job, record = jobs.submit(
        "wall", *TWO_NODES, "--time", "2", "--signal-seconds", "10",
        "--run.silence_seconds", "300",
    )  # fmt: skip
    told = record.folder / f"job-{job}.out"

    def asked() -> bool:
        return told.exists() and "asked to stop" in told.read_text()

    def trained() -> bool:
        return record.step() >= 50 or asked()

    processes = jobs.hold(job, record, trained)
    wait_for("the signal before wall time", asked)
    for process in processes:
        os.kill(process, signal.SIGCONT)
    wait_for("the job to be put back", lambda: verdicts(record) == ["requeued"])
    # Two minutes may be too short for an attempt where many processes share few cores.
    jobs.cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=10")
    jobs.ended(job)
    return record


def requeued(jobs: Jobs) -> Record:
    job, record = jobs.submit("requeued", *TWO_NODES)
    jobs.hold(job, record)
    jobs.cluster.run("scontrol", "requeue", job)  # continues what is held
    wait_for("the second attempt", lambda: len(record.attempts()) == 2)
    jobs.ended(job)
    return record


def node_killed(jobs: Jobs) -> Record:
    job, record = jobs.submit("killed", *TWO_NODES, "--partition", "spare")
    processes = jobs.hold(job, record)
    jobs.cluster.kill_node("n4")
    for process in processes:
        if Path(f"/proc/{process}").exists():
            os.kill(process, signal.SIGCONT)
    wait_for("the job to be put back", lambda: verdicts(record) == ["requeued"])
    wait_for("SLURM to see that n4 is down", lambda: "down" in str(jobs.cluster.states()))
    jobs.cluster.start_node("n4")
    jobs.ended(job)
    return record


def cancelled(jobs: Jobs) -> tuple[Record, str, str]:
    job, record = jobs.submit("cancelled", *TWO_NODES)
    jobs.hold(job, record)
    jobs.launcher("cancel", "cancelled")
    state = jobs.ended(job, "CANCELLED")["JobState"]
    wait_for("the end of the attempt", lambda: verdicts(record) == ["stopped"])
    status = jobs.launcher("status", "cancelled")
    again = jobs.launcher("resubmit", "cancelled").split()[1]
    jobs.ended(again)
    return record, state, status


def swept(jobs: Jobs) -> tuple[Path, str]:
    options = ("--training.steps", "20", "--time", "10", "--preflight-seconds", "0")
    said = jobs.launcher(
        "submit", "--config", "config.yaml", "--run.directory", "sweep", "--array", "0",
        "--strategies", "ntp,max_mi", *options,
    )  # fmt: skip
    report = said.split("report ")[1].split(":")[0]
    jobs.ended(report)
    return jobs.folder / "sweep", jobs.launcher("status", "sweep")


def broken(jobs: Jobs) -> tuple[Record, dict[str, str]]:
    job, record = jobs.submit(
        "broken", *TWO_NODES, "--data.task", "text", "--data.path", "nowhere.txt",
        "--selection.strategy", "ntp",
    )  # fmt: skip
    return record, jobs.ended(job, "FAILED")


def hopeless(jobs: Jobs) -> tuple[Record, dict[str, str]]:
    """A program that can always go on and never gets anywhere."""
    stub = jobs.folder / "stub"
    stub.write_text("#!/bin/sh\nexit 75\n")
    stub.chmod(0o755)
    job, record = jobs.submit("hopeless", *TWO_NODES, "--python", str(stub), "--restarts", "1")
    return record, jobs.ended(job, "FAILED")


def by_hand(jobs: Jobs, script: str, name: str, **variables: str) -> Path:
    """A batch script, without `launcher`."""
    done = subprocess.run(
        ["sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=1", "--time=10",
         f"--output={jobs.folder}/job-%j.out", f"launcher/slurm/{script}",
         "--config", str(jobs.folder / "config.yaml"),
         "--run.directory", str(jobs.folder / name)],
        cwd=ROOT, env={**jobs.cluster.environment, "MIFIRST_PREFLIGHT_SECONDS": "0",
                       "MIFIRST_PYTHON": sys.executable, **variables},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    jobs.ended(done.stdout.strip())
    return jobs.folder / name


def contained(jobs: Jobs) -> Path:
    """By hand, in what passes for a container."""
    folder = jobs.folder / "bin"
    folder.mkdir()
    apptainer = folder / "apptainer"
    apptainer.write_text(
        f'#!/bin/sh\necho "$@" >>{jobs.folder}/apptainer.txt\n'
        'while [ "$1" != image.sif ]; do shift; done\nshift\nexec "$@"\n'
    )
    apptainer.chmod(0o755)
    return by_hand(
        jobs, "train.sbatch", "contained", MIFIRST_IMAGE="image.sif", MIFIRST_RUNTIME="apptainer",
        MIFIRST_MOUNTS="/data", PATH=f"{folder}:{os.environ['PATH']}",
    )  # fmt: skip


def started(jobs: Jobs, name: str, command: list[str]) -> Path:
    """A command that is no batch job."""
    variables = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    environment = {k: v for k, v in jobs.cluster.environment.items() if k not in variables}
    environment |= {
        "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(
        [*command, str(MAIN), "--config", "config.yaml", "--run.directory", name],
        cwd=jobs.folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return jobs.folder / name


def with_host_file(jobs: Jobs) -> Path:
    hosts = jobs.folder / "hosts"
    hosts.write_text("localhost slots=2\n")
    deepspeed = [sys.executable, "-m", "deepspeed.launcher.runner", "--hostfile", str(hosts),
                 "--no_ssh_check", "--master_addr=127.0.0.1"]  # fmt: skip
    return started(jobs, "deepspeed", [*deepspeed, f"--master_port={free_port()}"])


def under_mpirun(jobs: Jobs) -> Path:
    mpirun = shutil.which("mpirun", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert mpirun, "mpirun comes with the dev extra"
    return started(jobs, "mpirun", [mpirun, "-n", "2", sys.executable])


WORK: dict[str, Callable[[Jobs], object]] = {
    "uninterrupted": uninterrupted,
    "at_wall_time": at_wall_time,
    "torchrun": lambda jobs: by_hand(jobs, "train-per-node.sbatch", "torchrun"),
    "requeued": requeued,
    "node_killed": node_killed,
    "cancelled": cancelled,
    "broken": broken,
    "hopeless": hopeless,
    "swept": swept,
    "deepspeed": lambda jobs: by_hand(
        jobs, "train-per-node.sbatch", "per-node", MIFIRST_STARTER="deepspeed"
    ),
    "contained": contained,
    "python": lambda jobs: started(jobs, "python", [sys.executable]),
    "srun": lambda jobs: started(
        jobs, "srun", ["srun", "--nodes=2", "--ntasks-per-node=1", "--time=10", sys.executable]
    ),
    "host_file": with_host_file,
    "mpirun": under_mpirun,
}


@pytest.fixture(scope="module")
def jobs(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "config.yaml").write_text(CONFIG)
    return Jobs(cluster, folder)


@pytest.fixture(scope="module")
def done(jobs: Jobs) -> Iterator[dict[str, Future[object]]]:
    """What becomes of each job, as a future."""
    with ThreadPoolExecutor(6) as pool:
        futures = {name: pool.submit(work, jobs) for name, work in WORK.items()}
        yield futures
        pool.shutdown(wait=True, cancel_futures=True)


@pytest.mark.parametrize(
    "options,said",
    [
        (["--account", "nobody"], "sbatch refuses: allocation failure: "
         "Invalid account"),
        (["--partition", "nowhere"], "invalid partition specified: nowhere"),
        (["--nodes", "9"], "Requested node configuration is not available"),
        (["--training.global_batch", "15"], "training.global_batch 15 is not divisible by the 2"),
    ],
)  # fmt: skip
def test_what_slurm_or_the_plan_refuses_is_said_at_once_and_nothing_is_left(jobs, options, said):
    answer = jobs.launcher(
        "submit", "--config", "config.yaml", "--run.directory", "refused", "--nodes", "2", *options,
        *(["--training.global_batch", "18"] if "9" in options else []), code=2,
    )  # fmt: skip
    assert said in answer
    assert answer.startswith("error: ")
    assert not (jobs.folder / "refused").exists()


def test_a_job_is_submitted_and_finishes(jobs, done):
    record = done["uninterrupted"].result()
    assert verdicts(record) == ["complete"]
    assert (record.attempts()[0].first, record.attempts()[0].last) == (0, STEPS)
    text = output(record)
    assert "all-reduce  4 MiB over 2 ranks" in text  # the check before training
    assert "torch 2." in text
    assert f"after {STEPS} steps" in text  # what the first rank says
    assert [path.name for path in sorted(record.logs().iterdir())] == ["rank-0.log", "rank-1.log"]
    assert jobs.launcher("logs", "whole") == text
    status = jobs.launcher("status", "whole")
    assert "COMPLETED" in status
    assert f"step        {STEPS} of {STEPS}, loss " in status
    assert all(len(line) <= 80 for line in status.splitlines()), status
    assert "is complete; nothing is left" in jobs.launcher("resubmit", "whole", code=2)
    again = jobs.launcher("submit", "--config", "config.yaml", "--run.directory", "whole", code=2)
    assert "already holds a run" in again


def test_at_wall_time_a_run_is_saved_and_goes_on_as_if_nothing_had_happened(jobs, done):
    record = done["at_wall_time"].result()
    first, last = record.attempts()
    assert (first.verdict, last.verdict) == ("requeued", "complete")
    assert "wall time" in first.why
    assert 0 < first.last < STEPS
    assert weights(record.directory) == weights(done["uninterrupted"].result().directory)
    assert losses(record.directory) == losses(done["uninterrupted"].result().directory)


def test_scontrol_requeue_in_the_middle_saves_first(done):
    record = done["requeued"].result()
    first, second = record.attempts()
    assert (first.verdict, second.verdict) == ("stopped", "complete")
    assert first.last >= 60  # later than the last checkpoint that was due
    assert second.first == first.last
    assert weights(record.directory) == weights(done["uninterrupted"].result().directory)


def test_a_node_that_dies_is_named_and_costs_the_steps_since_the_last_checkpoint(done):
    record = done["node_killed"].result()
    # SLURM may end the next attempts early, while the node comes back; they save what they did.
    first, *others = record.attempts()
    assert (first.verdict, first.why) == ("requeued", "a node failed")
    assert (others[0].first, others[-1].verdict) == (50, "complete")
    assert "node n4 does not answer" in output(record)
    assert weights(record.directory) == weights(done["uninterrupted"].result().directory)


def test_a_cancelled_job_is_saved_stays_cancelled_and_can_be_submitted_again(done):
    record, state, status = done["cancelled"].result()
    assert state == "CANCELLED"
    assert "CANCELLED" in status
    first, second = record.attempts()
    assert first.job != second.job
    assert first.last >= 60
    assert (second.first, second.verdict) == (first.last, "complete")
    assert weights(record.directory) == weights(done["uninterrupted"].result().directory)


def test_a_job_that_fails_at_once_is_not_put_back(done):
    record, job = done["broken"].result()
    assert job["Restarts"] == "0"
    assert verdicts(record) == ["failed"]
    assert "nowhere.txt" in output(record)  # the first rank's words
    assert "failed with exit code 2; not put back into the queue" in output(record)


def test_restarts_without_a_new_checkpoint_end(done):
    record, job = done["hopeless"].result()
    assert job["Restarts"] == "1"
    assert verdicts(record) == ["requeued", "gave up"]
    assert "1 restarts brought no new checkpoint after step 0" in output(record)


def test_a_sweep_ends_in_a_report(done):
    folder, status = done["swept"].result()
    report = json.loads((folder / "comparison.json").read_text())
    assert (folder / "report.html").exists()
    assert sorted(run["strategy"] for run in report["runs"]) == ["max_mi", "ntp"]
    assert "2 of 2 complete" in status
    assert all(len(line) <= 80 for line in status.splitlines()), status


def test_two_jobs_at_once_on_the_same_nodes_train_the_same(done):
    runs = ("uninterrupted", "requeued", "torchrun", "at_wall_time", "deepspeed")
    records = [
        found if isinstance(found := done[name].result(), Record) else Record(found)
        for name in runs
    ]
    attempts = [(attempt, record) for record in records for attempt in record.attempts()]
    pairs = [
        (one, other)
        for first, one in attempts
        for second, other in attempts
        if one is not other
        and first.nodes == second.nodes
        and first.began < second.ended
        and second.began < first.ended
    ]
    assert pairs
    for one, other in pairs:
        assert losses(one.directory) == losses(other.directory)


@pytest.mark.parametrize(
    "name", ["torchrun", "deepspeed", "contained", "python", "srun", "host_file", "mpirun"]
)
def test_every_way_to_start_trains_the_same(done, name):
    found = losses(done[name].result())
    expected = losses(done["uninterrupted"].result().directory)
    assert len(found) == STEPS
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_container_runs_the_ranks_and_sees_the_folders(jobs, done):
    folder = done["contained"].result()
    lines = (jobs.folder / "apptainer.txt").read_text().splitlines()
    assert len(lines) == 2
    assert f"exec --bind {ROOT}:{ROOT},{ROOT}:{ROOT},/data:/data --pwd {ROOT} image.sif" in lines[0]
    assert (folder / "result.json").exists()


def test_nothing_is_left_running(cluster, done):
    for future in done.values():
        future.exception()
    wait_for("an empty queue", lambda: not cluster.run("squeue", "-h").split(), 60)
    end = time.monotonic() + 10
    while cluster.leftovers() and time.monotonic() < end:
        time.sleep(0.2)
    assert cluster.leftovers() == []
