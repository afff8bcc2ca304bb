import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pretrain.distributed.ranks import free_port
from tests.data.corpora import made_up, save_letters, write_corpus
from tools.data.path_star import main as path_star
from tools.fit_selection import main

SMOKE = "configs/smoke/multiplication.yaml"


def fitted(capsys, *arguments: str) -> dict:
    assert main(["--config", SMOKE, "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_table_is_fitted_kept_and_refused(tmp_path, capsys):
    out = tmp_path / "t"
    first = fitted(capsys, "--out", str(out))
    assert first["how"] == "fitted"
    assert first["selection"]["order"] == [2, 1, 3, 0]
    again = fitted(capsys, "--out", str(out))
    assert again["how"] == "was there already"
    assert again["fingerprint"] == first["fingerprint"]
    assert again["selection"]["bits"] == first["selection"]["bits"]
    assert main(["--config", SMOKE, "--out", str(out), "--data.operation", "addition"]) == 2
    error = capsys.readouterr().err
    assert "does not belong to this run" in error
    assert "corpus: the table's is" in error
    assert main(["--config", SMOKE, "--out", str(out), "--selection.estimator", "pairwise"]) == 2
    assert 'estimator: the table\'s is "joint", this run\'s "pairwise"' in capsys.readouterr().err


def test_tables_add_up(tmp_path, capsys):
    once = fitted(capsys, "--out", str(tmp_path / "a"))
    parts = ["--add", str(tmp_path / "a"), "--add", str(tmp_path / "a")]
    twice = fitted(capsys, "--out", str(tmp_path / "b"), *parts)
    assert twice["selection"]["examples"] == 2 * once["selection"]["examples"]
    assert len(twice["made_from"]["corpus"]) == 2


def test_what_is_missing_is_said(capsys):
    assert main(["--config", SMOKE]) == 2
    assert "--out is missing" in capsys.readouterr().err
    arguments = ["--out", "x", "--selection.estimator", "v_information"]
    assert main(["--config", SMOKE, *arguments]) == 2
    assert "has no table" in capsys.readouterr().err


def data_of(name: str, folder: Path) -> list[str]:
    """Options that a smoke configuration needs besides: corpora are made first."""
    if name == "records":
        files = [str(folder / side) for side in ("train.jsonl", "test.jsonl")]
        star = ["--paths", "2", "--length", "4", "--nodes", "20", "--examples", "300"]
        assert path_star(["--out", files[0], "--test", files[1], *star]) == 0
        return ["--data.path", files[0], "--data.test_path", files[1]]
    if name != "corpus":
        return []
    prefix = write_corpus(folder / "c", made_up(200, seed=0))
    blend = ["--data.blend", f"{prefix}:1"]
    return [*blend, "--data.tokenizer", str(save_letters(folder))]


@pytest.mark.parametrize("name", ["multiplication", "debtags", "records", "shakespeare", "corpus"])
def test_a_table_that_does_not_fit_is_one_line(tmp_path, capsys, name):
    arguments = ["--config", f"configs/smoke/{name}.yaml", *data_of(name, tmp_path)]
    capsys.readouterr()
    out = tmp_path / "t"
    small = ["--selection.memory_gb", "1e-7"]
    assert main([*arguments, *small, "--out", str(out)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("error: selection.memory_gb 1e-07: ")
    assert "raise the memory budget" in line
    assert not out.exists()


def test_a_table_that_is_there_has_to_fit_too(tmp_path, capsys):
    fitted(capsys, "--out", str(tmp_path / "a"))
    small = ["--config", SMOKE, "--selection.memory_gb", "1e-7"]
    for more in (["--out", "a"], ["--out", "b", "--add", "a", "--add", "a"]):
        arguments = [str(tmp_path / each) if each in "ab" else each for each in more]
        assert main([*small, *arguments]) == 2
        assert capsys.readouterr().err.startswith("error: selection.memory_gb 1e-07: ")
    assert not (tmp_path / "b").exists()


def test_what_cannot_be_counted_is_one_line(tmp_path, capsys):
    out = ["--out", str(tmp_path / "t")]
    wide = ["--data.operation", "subtraction", "--data.digits", "9", "--data.examples", "100"]
    assert main(["--config", SMOKE, *wide, "--model.sequence_length", "40", *out]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: selection.estimator joint: ")
    assert "use a smaller estimator" in line
    text = tmp_path / "t.txt"
    words = ("".join("abcdefghij"[int(digit)] for digit in str(n)) for n in range(400))
    text.write_text("\n\n\n".join(words))
    alone = ["--data.path", str(text), "--selection.features", "before"]
    assert main(["--config", "configs/smoke/shakespeare.yaml", *alone, *out]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the training examples hold no pair to count; give more" in line


LAUNCHERS = {
    "torchrun": ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"],
    "deepspeed": ["-m", "deepspeed.launcher.runner", "--num_accelerators", "2", "--master_port"],
    "mpirun": [],
}


def command(launcher: str, out: Path) -> list[str]:
    arguments = ["--config", SMOKE, "--out", str(out), "--json"]
    here = str(Path(sys.executable).parent)
    if launcher == "mpirun":
        mpirun = [f"{here}/mpirun", "-n", "2"]
        return [*mpirun, sys.executable, "-m", "tools.fit_selection", *arguments]
    module = ["--module"] if launcher == "deepspeed" else ["-m"]
    start = [sys.executable, *LAUNCHERS[launcher], str(free_port())]
    return [*start, *module, "tools.fit_selection", *arguments]


@pytest.mark.distributed
def test_every_launcher_fits_the_same_table(tmp_path, capsys):
    single = fitted(capsys, "--out", str(tmp_path / "single"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    # A container's only user may be root; prterun wants to be told that this is meant.
    environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    environment |= {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
    for launcher in LAUNCHERS:
        run = subprocess.run(
            command(launcher, tmp_path / launcher),
            capture_output=True, text=True, timeout=240, env=environment, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout + run.stderr
        (line,) = [line for line in run.stdout.splitlines() if line.startswith("{")]
        report = json.loads(line)
        assert report["fingerprint"] == single["fingerprint"]
        assert report["selection"]["bits"] == single["selection"]["bits"]
        assert len(report["shards"]) == 2
    # What two ranks fitted, one loads.
    assert fitted(capsys, "--out", str(tmp_path / "mpirun"))["how"] == "was there already"
