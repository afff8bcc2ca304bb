"""The benchmark of one GPU, as far as it can be seen on a CPU."""

import json

import pytest
import torch

from tools.bench import gpu
from tools.bench.gpu import SIZES, config_of, main, summary, table, time_sides
from tools.bench.interleaved import Memory, Orders
from tools.bench.train_step import Kind


def test_it_is_refused_without_a_gpu(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: tools.bench.gpu needs a CUDA device")
    assert "--device cpu --tiny" in said


@pytest.mark.parametrize("size,parameters", [("124M", 124e6), ("350M", 355e6), ("1.3B", 1.31e9)])
def test_sizes_have_the_parameters_that_they_are_named_after(size, parameters):
    from pretrain.model.flops import model_cost

    config = config_of(size, "cuda", tiny=False, overrides={})
    found = model_cost(config.model, config.vocabulary_size(2)).parameters
    assert found == pytest.approx(parameters, rel=0.02)
    assert config.training.precision == "bf16"


def test_overrides_hold_for_each_size():
    for size in SIZES:
        config = config_of(size, "cpu", tiny=True, overrides={"training": {"micro_batch": 1}})
        assert (config.training.micro_batch, config.training.global_batch) == (1, 4)
        assert config.run.device == "cpu"


def known_result() -> dict:
    config = config_of("124M", "cuda", tiny=False, overrides={"training": {"global_batch": 16}})
    taken = {
        "ours": [(1.0, Memory(900.0, 400.0, 2048.0)), (2.0, Memory(950.0, 400.0, 1024.0))],
        "plain": [(1.5, Memory(800.0, 300.0, 4096.0)), (3.0, Memory(800.0, 300.0, 4096.0))],
    }
    return summary(config, taken, "NVIDIA H100 80GB HBM3")


def test_rates_and_mfu_have_known_values():
    found = known_result()
    ours = found["sides"]["ours"]
    assert ours["tokens_per_second"] == pytest.approx(16 * 1024 / 1.5, rel=1e-3)
    expected = ours["tokens_per_second"] * found["flops_per_token"] / 989e12
    assert ours["mfu"] == pytest.approx(expected, rel=1e-3)
    assert (ours["device_peak_mib"], ours["host_peak_mib"]) == (2048.0, 950.0)
    assert found["ratio"] == {"ours / plain": 1.5}


def test_the_table_has_a_line_for_each_side():
    result = {"device": "NVIDIA H100 80GB HBM3", "torch": "2", "sizes": {"124M": known_result()}}
    result["sizes"]["124M"]["selection"] = {"selection_share": 0.0123}
    text = table(result)
    assert "| 124M | ours | 10,920 |" in text
    assert "2.0 GiB | 1.23% |" in text
    assert "124M: ours / plain 1.500" in text
    assert "124M: peak 9.89e+14 FLOP/s" in text


def broken(config, orders: Orders) -> None:
    raise MemoryError("out of memory on purpose")


def works(config, orders: Orders) -> None:
    orders.serve(lambda: None)


@pytest.mark.distributed
def test_a_side_that_fails_is_left_out(monkeypatch, capfd):
    monkeypatch.setattr(gpu, "KINDS", {"ours": Kind(works), "plain": Kind(broken)})
    config = config_of("124M", "cpu", tiny=True, overrides={})
    taken = time_sides(config, ["ours", "plain"], rounds=2, turns=2, steps=1)
    assert {name: len(turns) for name, turns in taken.items()} == {"ours": 2}
    assert "plain is left out: a process of plain ended early" in capfd.readouterr().err


@pytest.mark.distributed
def test_tiny_shapes_run_on_a_cpu_and_are_written(tmp_path, capsys):
    out = tmp_path / "deep" / "gpu.json"
    options = ["--device", "cpu", "--tiny", "--sizes", "124M", "--sides", "ours,plain"]
    options += ["--rounds", "1", "--turns", "1", "--steps-per-turn", "1", "--out", str(out)]
    assert main(options) == 0
    found = json.loads(out.read_text())["sizes"]["124M"]
    assert set(found["sides"]) == {"ours", "plain"}
    assert found["sides"]["ours"]["mfu"] is None  # no peak is known of a CPU
    assert 0.0 <= found["selection"]["selection_share"] < 1.0
    assert "| 124M | ours |" in capsys.readouterr().out


def test_unknown_sizes_and_sides_are_refused(capsys):
    for option in ("--sizes", "--sides"):
        assert main(["--device", "cpu", "--tiny", option, "13B"]) == 2
        assert f"error: {option}: unknown 13B" in capsys.readouterr().err
