"""Figures that are printed have known answers."""

import pytest

from pretrain.config import load_config
from pretrain.errors import ConfigError
from pretrain.model.flops import ModelCost
from pretrain.ranks import Ranks
from pretrain.training import loop
from pretrain.training.run_directory import RunDirectory
from pretrain.training.zero import deepspeed_config, state_bytes, zero_stage


class FakeTopology:
    ranks = Ranks("torchrun", 0, 4, 0, 4)
    device = None


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])
    return now


def meter(monkeypatch, peak):
    monkeypatch.setattr(loop, "device_name", lambda device: "some device")
    monkeypatch.setattr(loop, "peak_flops", lambda name, precision: peak)
    config = load_config(None, {"model": {"sequence_length": 10}, "training": {"global_batch": 20}})
    return loop.Meter(config, FakeTopology(), ModelCost(parameters=1, flops_per_token=50))


def test_rates_of_an_interval(monkeypatch, clock):
    m = meter(monkeypatch, peak=1000.0)
    for waited in (0.1, 0.3):
        m.add(waited)
    clock[0] += 4.0
    record = m.record(step=6, loss=1.5, rate=0.1, grad_norm=2.0)
    assert record.tokens == 6 * 200
    assert record.step_seconds == pytest.approx(2.0)
    assert record.selection_seconds == pytest.approx(0.2)
    assert record.tokens_per_second == pytest.approx(100.0)
    assert record.model_flops_per_second == pytest.approx(5000.0)
    assert record.mfu == pytest.approx(5000.0 / 4000.0)


def test_the_next_interval_starts_anew(monkeypatch, clock):
    m = meter(monkeypatch, peak=None)
    m.add(0.5)
    clock[0] += 9.0
    m.record(1, 1.0, 0.1, 1.0)
    m.add(0.0)
    clock[0] += 1.0
    record = m.record(2, 1.0, 0.1, 1.0)
    assert record.step_seconds == pytest.approx(1.0)
    assert record.selection_seconds == 0.0
    assert record.mfu is None


@pytest.mark.parametrize(
    "parallel,precision,expected",
    [
        ({}, "fp32", (4000, 4000, 8000)),
        ({"zero_stage": 1}, "fp32", (4000, 4000, 2000)),
        ({"zero_stage": 2}, "fp32", (4000, 1000, 2000)),
        ({"zero_stage": 3}, "bf16", (500, 500, 3000)),
        # bf16 keeps its master weights in the stage-1 optimizer, whatever is asked for.
        ({"zero_stage": 0}, "bf16", (2000, 2000, 3000)),
    ],
)
def test_bytes_of_the_training_state(parallel, precision, expected):
    config = load_config(None, {"parallel": parallel, "training": {"precision": precision}})
    assert tuple(state_bytes(config, 1000, 4).values()) == expected


@pytest.mark.parametrize(
    "stage,precision,expected", [(0, "fp32", 0), (2, "fp32", 2), (0, "bf16", 1), (3, "bf16", 3)]
)
def test_the_stage_that_deepspeed_is_given(stage, precision, expected):
    config = load_config(
        None, {"parallel": {"zero_stage": stage}, "training": {"precision": precision}}
    )
    assert zero_stage(config) == expected
    settings = deepspeed_config(config, 4)
    assert settings["zero_optimization"]["stage"] == expected
    assert settings["train_micro_batch_size_per_gpu"] == 32
    # Without ZeRO we clip ourselves.
    assert settings["gradient_clipping"] == (0.0 if expected == 0 else 1.0)


def test_a_folder_with_a_run_is_not_overwritten_unasked(tmp_path):
    config = load_config(None, {"run": {"directory": tmp_path}})
    directory = RunDirectory(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    directory.prepare(config)
    assert directory.result() is None
    directory.finish({"exact_match": 0.5})
    with pytest.raises(ConfigError, match=r"already holds a run .*run\.overwrite"):
        directory.prepare(config)
    assert directory.result()["exact_match"] == 0.5
    again = config.model_copy(update={"run": config.run.model_copy(update={"overwrite": True})})
    directory.prepare(again)
    assert directory.result() is None
    assert (tmp_path / "notes.txt").read_text() == "mine"
