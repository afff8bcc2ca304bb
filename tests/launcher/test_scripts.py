"""Batch scripts: rendered from the templates, and clean."""

import re
import shlex
import subprocess
import sys

import pytest

from launcher.__main__ import main
from launcher.checks import warnings
from launcher.program import ROOT, copy_program
from launcher.settings import Settings, minutes
from launcher.slurm.render import TEMPLATES
from pretrain.config import load_config

CONFIG = "model: {layers: 2}\ntraining: {global_batch: 16}\n"


@pytest.fixture
def submit(tmp_path, monkeypatch, capsys):
    """What `launcher submit --dry-run` prints, where there is no SLURM."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setattr("launcher.slurm.commands.installed", lambda: False)

    def run(*options: str, code: int = 0) -> str:
        arguments = ["submit", "--config", "config.yaml", "--run.directory", "runs/a", "--dry-run"]
        assert main([*arguments, *options]) == code
        said = capsys.readouterr()
        return said.out if code == 0 else said.err

    return run


def directives(text: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if "#SBATCH" in line]


def test_a_dry_run_shows_the_plan_and_the_script_and_writes_nothing(submit, tmp_path):
    text = submit("--nodes", "2", "--gpus-per-node", "4", "--time", "24:00:00", "--partition", "p",
                  "--account", "a", "--sbatch=--exclude=n3", "--gpu-memory", "40GB")  # fmt: skip
    assert "# 2 x 4 ranks: tensor 1 x data 8 x pipeline 1\n" in text
    assert re.search(r"# [\d.]+ MiB of 33.53 GiB on the fullest GPU", text)
    assert directives(text) == [
        "--job-name=mifirst-a",
        f"--output={tmp_path}/runs/a/slurm/job-%j.out",
        "--open-mode=append",
        "--requeue",
        "--signal=B:USR1@120",
        f"--chdir={tmp_path}",
        "--time=24:00:00",
        "--partition=p",
        "--account=a",
        "--nodes=2",
        "--ntasks-per-node=4",
        "--gpus-per-node=4",
        "--exclude=n3",
    ]
    assert "set -- --config runs/a/slurm/config.yaml --run.directory runs/a\n" in text
    assert f"export MIFIRST_PYTHON={sys.executable}\n" in text
    assert not (tmp_path / "runs").exists()


def test_a_script_is_its_template_with_settings_in_it(submit):
    text = submit("--starter", "deepspeed", "--gpus-per-node", "4", "--cpus-per-task", "8")
    template = (TEMPLATES / "train-per-node.sbatch").read_text()
    own = set(template.splitlines())
    added = [line for line in text.splitlines() if line not in own and "#SBATCH" not in line]
    assert added[0] == "# 1 x 4 ranks: tensor 1 x data 4 x pipeline 1"
    assert all(re.match(r"export MIFIRST_\w+=|set -- ", line) for line in added[1:])
    assert "--ntasks-per-node=1" in directives(text)
    assert "--cpus-per-task=32" in directives(text)
    assert "export MIFIRST_STARTER=deepspeed" in added
    assert "export MIFIRST_PROCESSES=4" in added


@pytest.mark.parametrize("runtime", ["pyxis", "apptainer"])
def test_a_container_is_named_to_the_script(submit, runtime):
    text = submit("--container", "a.sqsh", "--runtime", runtime, "--mounts", "/data,/x:/y")
    assert f"export MIFIRST_RUNTIME={runtime}\nexport MIFIRST_IMAGE=a.sqsh\n" in text
    assert "export MIFIRST_MOUNTS=/data,/x:/y\n" in text
    assert "MIFIRST_PYTHON=/" not in text  # the container has one of its own


def test_a_space_in_a_path_breaks_nothing(tmp_path, submit, monkeypatch):
    folder = tmp_path / "a b,50%"
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(folder)
    text = submit('--sbatch=--comment=it\'s "mine"', "--run.directory", "runs/c d%j $x")
    found = [shlex.split(line)[0] for line in directives(text)]
    assert all(len(shlex.split(line)) == 1 for line in directives(text))
    assert "--job-name=mifirst-c_d_j_x" in found
    escaped = str(folder).replace("%", "%%")
    assert f"--output={escaped}/runs/c d%%j $x/slurm/job-%j.out" in found
    assert f"--chdir={folder}" in found
    assert '--comment=it\'s "mine"' in found
    arguments = next(line for line in text.splitlines() if line.startswith("set -- "))
    assert shlex.split(arguments)[-1] == "runs/c d%j $x"


@pytest.mark.parametrize("name", ["a,b", "a:b"])
def test_a_folder_that_a_container_cannot_be_given_is_refused(name, tmp_path, submit, monkeypatch):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(folder)
    assert "has a comma or colon in it" in submit("--container", "image.sqsh", code=2)


def test_ranks_in_one_task_need_cores(submit):
    said = submit("--starter", "torchrun", "--gpus-per-node", "8", code=2)
    assert "starter torchrun starts 8 ranks in one task of each node" in said
    assert "--cpus-per-task" in said
    options = ("--starter", "torchrun", "--gpus-per-node", "8")
    assert "--cpus-per-task=64" in directives(submit(*options, "--cpus-per-task", "8"))
    assert "--cpus-per-gpu=8" in directives(submit(*options, "--sbatch=--cpus-per-gpu=8"))


@pytest.mark.parametrize(
    "variables,threads,srun",
    [
        ({"SLURM_CPUS_PER_TASK": "64", "MIFIRST_PROCESSES": "8"}, 8, 64),
        ({"SLURM_CPUS_PER_TASK": "4"}, 4, 4),
        # --cpus-per-gpu, --exclusive: SLURM says only what the job has on the node.
        (
            {"SLURM_CPUS_ON_NODE": "64", "SLURM_TASKS_PER_NODE": "1", "MIFIRST_PROCESSES": "8"},
            8,
            64,
        ),
        ({"SLURM_CPUS_ON_NODE": "64", "SLURM_TASKS_PER_NODE": "8(x2)"}, 8, 8),
        ({"SLURM_CPUS_ON_NODE": "1", "MIFIRST_PROCESSES": "8"}, 1, 1),
        ({}, 1, 1),
        ({"SLURM_CPUS_PER_TASK": "4", "OMP_NUM_THREADS": "2"}, 2, 4),
    ],
)
def test_each_rank_gets_its_share_of_its_task_s_cores(variables, threads, srun):
    script = f"source {TEMPLATES}/job.sh; share_cores; echo $OMP_NUM_THREADS $SRUN_CPUS_PER_TASK"
    done = subprocess.run(
        ["bash", "-euc", script], env={"PATH": "/usr/bin:/bin", **variables},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == f"{threads} {srun}"
    assert ("warning" in done.stdout) == (variables.get("SLURM_CPUS_ON_NODE") == "1")


def test_a_report_asks_for_minutes(submit):
    text = submit("--array", "0,1", "--strategies", "ntp", "--time", "2-00:00:00")
    assert [line for line in directives(text) if "--time" in line] == [
        "--time=2-00:00:00", "--time=30",
    ]  # fmt: skip
    short = submit("--array", "0,1", "--strategies", "ntp", "--time", "5:00")
    assert short.count("--time=5:00\n") == 2


def test_wall_times_in_minutes():
    times = ("90", "1:30", "2:00:30", "1-12", "1-12:30", "2-00:00:00")
    assert [minutes(time) for time in times] == [90, 1.5, 120.5, 2160, 2190, 2880]


def test_too_little_time_or_memory_is_said_before_the_job_waits(tmp_path):
    config = load_config(None, {"model": {"layers": 24, "hidden_size": 2048}})
    config.training.steps = 10**8
    gpu = Settings(gpus_per_node=1, time="10")
    (said,) = warnings(config, gpu)
    assert re.match(
        r"--time 10: 100,000,000 steps take about [\d,]+ h \d+ min on 1 x NVIDIA H100", said
    )
    assert warnings(config, Settings(gpus_per_node=1)) == []
    (said,) = warnings(config, Settings(sbatch=("--mem=1G",)))
    assert re.match(r"--mem=1G: the ranks of a node need about \d+", said)
    assert warnings(config, Settings(sbatch=("--mem=900G",))) == []
    assert warnings(config, Settings(sbatch=("--mem=0",))) == []


def test_a_job_runs_a_copy_of_the_program(tmp_path):
    copy = copy_program(tmp_path)
    assert copy == tmp_path / "program"
    assert (copy / "pretrain" / "main.py").read_bytes() == (ROOT / "pretrain/main.py").read_bytes()
    assert (copy / "launcher" / "slurm" / "job.sh").exists()
    assert not list(copy.rglob("*.pyc"))
    (copy / "pretrain" / "main.py").write_text("changed")
    assert copy_program(tmp_path) == copy
    assert (copy / "pretrain" / "main.py").read_text() != "changed"
    assert [path.name for path in tmp_path.iterdir()] == ["program"]


def test_the_tasks_of_a_sweep_are_strategies_and_seeds(submit):
    text = submit("--array", "0,1", "--strategies", "ntp,fixed:fixed=3-2-1-0", "--at-once", "3")
    assert "# 4 runs, 4 of them to be trained\n" in text
    assert "--array=0,1,2,3%3" in directives(text)
    folders = re.search(r"runs=\((.*?)\)", text, re.DOTALL)
    assert folders is not None
    assert shlex.split(folders[1]) == [
        "runs/a/ntp-seed0", "runs/a/fixed,3-2-1-0-seed0",
        "runs/a/ntp-seed1", "runs/a/fixed,3-2-1-0-seed1",
    ]  # fmt: skip
    assert "--strategies ntp,fixed:fixed=3-2-1-0" in text


def test_defaults_of_a_cluster_count_where_nothing_is_given(submit, tmp_path):
    folder = tmp_path / "settings" / "mifirst" / "clusters"
    folder.mkdir(parents=True)
    (folder / "lab.yaml").write_text(
        "partition: gpu\ntime: '8:00:00'\ngpus_per_node: 4\nsetup: [module load cuda]\n"
        "environment: {NCCL_SOCKET_IFNAME: ib0}\nsbatch: [--exclusive]\n"
    )
    text = submit("--cluster", "lab", "--partition", "debug", "--sbatch=--exclude=n3")
    found = directives(text)
    assert {"--partition=debug", "--time=8:00:00", "--ntasks-per-node=4"} < set(found)
    assert found[-2:] == ["--exclusive", "--exclude=n3"]
    assert "export NCCL_SOCKET_IFNAME=ib0\nmodule load cuda\n" in text


@pytest.mark.parametrize(
    "text,needle",
    [
        ("partitoin: gpu\n", r"lab.yaml: unknown field partitoin; did you mean partition\?"),
        ("nodes: many\n", r"lab.yaml: nodes: input should be a valid integer.*\(found 'many'\)"),
        ("time: soon\n", r"lab.yaml: time 'soon': expected 24:00:00, 2-12:00 or minutes"),
        ("- a\n", r"lab.yaml: expected fields and values, found a list"),
        ("mounts: [/a]\n", r"lab.yaml: mounts /a are of no use without container"),
    ],
)
def test_an_error_in_a_clusters_file_names_file_and_field(submit, tmp_path, text, needle):
    folder = tmp_path / "settings" / "mifirst" / "clusters"
    folder.mkdir(parents=True)
    (folder / "lab.yaml").write_text(text)
    assert re.search(needle, submit("--cluster", "lab", code=2))


@pytest.mark.parametrize(
    "options,needle",
    [
        (["--nodes", "0"], "command line: nodes: input should be greater than or equal to 1"),
        (["--nodez", "2"], "unknown option --nodez"),
        (["--cluster", "x"], "--cluster x: there is no "),
        (["--nodes", "3"], "--nodes 3 x 1 ranks per node: training.global_batch 16 is not"),
        (["--gpu-memory", "1MB", "--gpus-per-node", "1"], "--gpu-memory 1MB: a rank needs "),
        (["--run.device", "cuda"], "run.device cuda needs GPUs; give --gpus-per-node"),
        (["--array", "0,0"], "--seeds 0,0: expected whole numbers"),
        (["--strategies", "best"], "--strategies: best is unknown; use ntp"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(submit, tmp_path, options, needle):
    said = submit(*options, code=2)
    assert needle in said.replace("\n", " ")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["status", "logs", "cancel", "resubmit"])
def test_a_folder_that_is_no_run_is_named(command, tmp_path, capsys):
    assert main([command, str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_scripts_are_clean(shellcheck):
    scripts = sorted(str(path) for path in TEMPLATES.iterdir() if path.suffix in (".sh", ".sbatch"))
    assert len(scripts) == 6
    done = subprocess.run(
        [shellcheck, "--external-sources", *scripts],
        cwd=TEMPLATES.parent.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize(
    "first,requeued", [(74, True), (1, False)], ids=["lost its rank", "has a bug"]
)
def test_a_job_goes_on_after_a_rank_was_lost_and_not_after_a_bug(tmp_path, first, requeued):
    """What `finish` decides, with SLURM's commands played."""
    run = tmp_path / "run"
    logs = run / "slurm" / "logs"
    logs.mkdir(parents=True)
    (logs / "exit-1").write_text(f"{first} n1\n")
    script = f"""
        source {TEMPLATES}/job.sh
        run={run} logs={logs} MIFIRST_NODES=n1
        scontrol() {{ echo "scontrol $*" >>{tmp_path}/called; echo ' JobState=RUNNING '; }}
        nodes_answer() {{ true; }}
        sleep() {{ exit 0; }}
        exec() {{ exit 0; }}
        finish {first}
    """
    environment = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    called = (tmp_path / "called").read_text() if requeued else ""
    assert ("scontrol requeue 7" in called) == requeued, done.stderr
    assert done.returncode == (0 if requeued else first)
    told = "a rank was lost or stood still" if requeued else "failed with exit code 1"
    assert told in done.stdout


@pytest.mark.parametrize(
    "given,run",
    [
        (["--run.directory=~/runs/a"], "/home/me/runs/a"),
        (["--run.directory", "~"], "/home/me"),
        (["--run.directory", "runs/~a"], "runs/~a"),
        (["--run.directory=~you/a"], None),
    ],
)
def test_a_batch_script_by_hand_finds_the_run_at_home(given, run):
    done = subprocess.run(
        ["bash", "-c", f'source {TEMPLATES}/job.sh; find_run "$@"; echo "$run"', "bash", *given],
        env={"HOME": "/home/me", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if run is None:
        assert done.returncode != 0
        assert "--run.directory ~you/a: write the path out" in done.stdout + done.stderr
    else:
        assert done.stdout == f"{run}\n"
