"""The entry as users start it, under every launcher."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.numpy import load_file

from pretrain import main
from pretrain.config import Config, load_config
from pretrain.distributed.ranks import free_port

ROOT = Path(__file__).resolve().parent.parent
MAIN = str(ROOT / "pretrain" / "main.py")
BIN = Path(sys.executable).parent
SMALL = [
    "--model.hidden_size", "32", "--model.layers", "2", "--model.sequence_length", "10",
    "--training.global_batch", "16", "--training.steps", "6", "--optimizer.warmup_steps", "2",
    "--training.evaluation_examples", "40", "--training.evaluate_every", "3",
    "--run.log_every", "2",
]  # fmt: skip
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def start(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    environment |= {
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


def launcher(name: str) -> list[str]:
    """Command line that starts the entry with one or two processes."""
    if name == "python":
        return [sys.executable, MAIN]
    if name == "torchrun":
        port = f"--master-port={free_port()}"
        return [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", port, MAIN]
    if name == "deepspeed":
        runner = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_accelerators=2"]
        return [*runner, f"--master_port={free_port()}", MAIN]
    mpirun = shutil.which("mpirun", path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    assert mpirun, "mpirun comes with the dev extra"
    return [mpirun, "-n", "2", sys.executable, MAIN]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, tuple[Path, subprocess.CompletedProcess[str]]]:
    found = {}
    for name in ("python", "torchrun", "deepspeed", "mpirun"):
        directory = tmp_path_factory.mktemp(name)
        done = start(
            [*launcher(name), *SMALL, "--run.directory", str(directory / "run")], directory
        )
        found[name] = (directory / "run", done)
    return found


@pytest.mark.distributed
@pytest.mark.parametrize("name", ["python", "torchrun", "deepspeed", "mpirun"])
def test_a_run_leaves_its_records(runs, name):
    directory, done = runs[name]
    assert done.returncode == 0, done.stderr
    config = load_config(None, yaml.safe_load((directory / "config.yaml").read_text()))
    assert config.training.steps == 6
    metrics = lines(directory / "metrics.jsonl")
    assert [line["step"] for line in metrics] == [2, 4, 6]
    assert metrics[-1]["tokens"] == 6 * 16 * 10
    for field in (
        "loss", "learning_rate", "grad_norm", "step_seconds", "selection_seconds",
        "tokens_per_second", "model_flops_per_second",
    ):  # fmt: skip
        assert all(isinstance(line[field], float) for line in metrics), field
    assert "mfu" not in metrics[0]  # nobody knows this CPU's peak
    evaluations = lines(directory / "evaluation.jsonl")
    assert [line["step"] for line in evaluations] == [3, 6]
    assert all(line["examples"] == 40 for line in evaluations)
    assert all(len(line["unit_accuracy"]) == 4 for line in evaluations)
    selection = json.loads((directory / "selection.json").read_text())
    assert selection["order"] == [2, 1, 3, 0]
    assert len(selection["bits"]) == 4
    result = json.loads((directory / "result.json").read_text())
    assert result["fingerprint"] == selection["fingerprint"]
    assert list((directory / "tensorboard").glob("events*"))
    files = sorted((directory / "checkpoints" / "step-00000006").glob("*.safetensors"))
    held = {name: array for file in files for name, array in load_file(file).items()}
    weights = [array.size for name, array in held.items() if "|weight|" in name]
    assert sum(weights) == result["parameters"]


@pytest.mark.distributed
def test_every_launcher_trains_the_same(runs):
    losses = {
        name: [line["loss"] for line in lines(directory / "metrics.jsonl")]
        for name, (directory, _) in runs.items()
    }
    for name, values in losses.items():
        assert values == pytest.approx(losses["python"], rel=1e-5), name


@pytest.mark.distributed
def test_no_library_warning_reaches_the_user(runs):
    for name in ("python", "mpirun"):
        output = runs[name][1].stdout + runs[name][1].stderr
        assert "arning" not in output, output
    assert "Apex" not in runs["torchrun"][1].stderr


def test_addition_is_learned(tmp_path):
    """From digits to exact match on held-out sums: the whole path works."""
    directory = tmp_path / "run"
    done = start(
        [
            sys.executable, MAIN, "--data.operation", "addition",
            "--model.hidden_size", "64", "--model.sequence_length", "9",
            "--training.steps", "600", "--optimizer.learning_rate", "4e-3",
            "--optimizer.warmup_steps", "50", "--training.global_batch", "128",
            "--selection.strategy", "reverse",
            "--run.directory", str(directory),
        ],
        tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert lines(directory / "metrics.jsonl")[-1]["loss"] < 0.1
    assert lines(directory / "evaluation.jsonl")[-1]["metrics"]["exact_match"] >= 0.9


def test_help_documents_every_field(tmp_path):
    text = start([sys.executable, MAIN, "--help"], tmp_path).stdout
    for section, info in Config.model_fields.items():
        for field, details in info.annotation.model_fields.items():
            assert f"--{section}.{field}" in text
            assert details.description.split()[0] in text
    assert "--dry-run" in text


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    done = start([sys.executable, MAIN, *SMALL, "--dry-run"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for word in ("parameters", "layout", "memory", "FLOPs/token", "made-up batch"):
        assert word in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments,needle",
    [
        (["--training.stepz", "3"], "did you mean training.steps?"),
        (["--model.sequence_length", "8"], "model.sequence_length 8 is too short"),
        (["--parallel.tensor", "2"], "parallel.tensor 2"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: No such file"),
        (
            ["--selection.strategy", "fixed", "--selection.fixed", "[1,0]"],
            "the task has 4 (thousands",
        ),
    ],
)
def test_errors_are_short(tmp_path, arguments, needle):
    done = start([sys.executable, MAIN, *arguments], tmp_path)
    assert done.returncode == 2
    assert needle in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 4
    assert not (tmp_path / "runs").exists()


@pytest.mark.distributed
def test_a_dry_run_counts_weights_that_zero_3_shards(tmp_path):
    done = start(
        [*launcher("torchrun"), *SMALL, "--parallel.zero_stage", "3", "--dry-run"], tmp_path
    )
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("parameters"))
    total, held = [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]+", line)]
    assert total == held > 0


@pytest.mark.distributed
def test_one_rank_speaks_for_all(tmp_path):
    done = start([*launcher("torchrun"), "--training.global_batch", "7"], tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("training.global_batch 7 is not divisible") == 1


@pytest.mark.parametrize("rank,says", [(0, "error: "), (1, "error on rank 1: ")])
def test_another_rank_leaves_the_first_one_time_to_speak(rank, says, monkeypatch, capsys):
    waited = []
    monkeypatch.setattr(main.time, "sleep", waited.append)
    for name, value in zip(VARIABLES, (rank, 2, rank, 2, "localhost", free_port()), strict=True):
        monkeypatch.setenv(name, str(value))
    assert main.main(["--training.global_batch", "7"]) == 2
    assert capsys.readouterr().err.startswith(f"{says}training.global_batch 7 is not divisible")
    assert waited == [main.PATIENCE] * rank
