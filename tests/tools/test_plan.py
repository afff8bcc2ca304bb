"""The command: what it prints, as text of 80 columns and as JSON, and how it refuses."""

import json
from pathlib import Path

import pytest

from tools import plan

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def run(capsys, *arguments):
    code = plan.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("name,gpus", [("llama_70b", 256), ("gpt2_124m", 1), ("gpt_175b", 1024)])
def test_a_plan_fits_80_columns_and_says_it_all(capsys, name, gpus):
    code, out, err = run(capsys, "--config", CONFIGS / f"{name}.yaml", "--gpus", gpus)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    words = ["parameters", "weights", "gradients", "optimizer", "activations", "selective",
             "selector", "sent", "FLOPs/token", "step", "assumed", "combinations fit"]  # fmt: skip
    words += ["bubble", "tensor", "pipeline", "refused by a rule"] if gpus > 1 else []
    assert [word for word in words if word not in out] == []


def test_json_has_the_same_numbers(capsys):
    path = CONFIGS / "llama_70b.yaml"
    code, out, _ = run(capsys, "--config", path, "--gpus", 256, "--json", "--top", 3)
    assert code == 0
    values = json.loads(out)
    configured = values["configured"]
    assert configured["parameters"] == 68_976_648_192
    assert configured["data_parallel"] == 8
    assert configured["memory"]["peak"] <= values["limit"] == int(0.9 * 80e9)
    assert configured["bubble_fraction"] == pytest.approx(3 / (128 * 5 + 3))
    assert len(values["search"]["fitting"]) == 3


def test_without_gpus_one_copy_of_the_model_is_planned(capsys):
    code, out, _ = run(capsys, "--config", CONFIGS / "llama_70b.yaml")
    assert code == 0
    assert "32 x cuda: TP8+SP, PP4x5, DP1" in " ".join(out.split())
    assert "combinations" not in out


def test_a_layout_that_does_not_fit_the_number_is_explained_and_others_are_searched(capsys):
    code, out, _ = run(capsys, "--config", CONFIGS / "llama_70b.yaml", "--gpus", 48)
    assert code == 0
    assert "needs a multiple of 32 processes, found 48" in " ".join(out.split())
    assert "combinations fit" in out


def test_too_little_memory_says_what_takes_it(capsys):
    path = CONFIGS / "llama_7b.yaml"
    code, out, _ = run(capsys, "--config", path, "--gpus", 2, "--gpu-memory", "16GB")
    assert code == 0
    text = " ".join(out.split())
    for words in ("0 of", "too much", "optimizer", "does not fit in 13.41 GiB"):
        assert words in text


def test_a_cpu_has_no_step_time(capsys):
    code, out, _ = run(capsys, "--run.device", "cpu")
    assert code == 0
    assert "x cpu" in out
    assert "TFLOP/s" not in out
    assert "fits" not in out


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--gpu-memory", "80"], "--gpu-memory 80: expected a number and one of GB, GiB"),
        (["--mfu", "1.5"], "--mfu 1.5: expected a number above 0 and at most 1"),
        (["--reserve", "1"], "--reserve 1.0: expected at least 0 and below 1"),
        (["--gpus", "0"], "--gpus 0: expected at least 1"),
        (["--device", "Abacus"], "--device Abacus: its peak is not known"),
        (["--gpus", "2", "--run.device", "cpu"], "which a CPU has no known peak for"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: No such file"),
        (["--parallel.context", "2"], "Transformer Engine's attention"),
    ],
)
def test_errors_name_the_way_out(capsys, arguments, message):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
