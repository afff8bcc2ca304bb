"""Figures that are printed have known answers."""

import pytest

from pretrain.config import load_config
from pretrain.distributed.ranks import Ranks
from pretrain.distributed.zero import deepspeed_config, owns_norm, zero_stage
from pretrain.errors import ConfigError
from pretrain.model.flops import ModelCost
from pretrain.training import loop
from pretrain.training.run_directory import RunDirectory


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
    record = m.record(step=6, loss=1.5, rate=0.1, grad_norm=2.0, skipped=0)
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
    m.record(1, 1.0, 0.1, 1.0, 0)
    m.add(0.0)
    clock[0] += 1.0
    record = m.record(2, 1.0, 0.1, 1.0, 0)
    assert record.step_seconds == pytest.approx(1.0)
    assert record.selection_seconds == 0.0
    assert record.mfu is None


@pytest.mark.parametrize(
    "stage,precision,ranks,expected",
    [
        (0, "fp32", 4, 0),
        (2, "fp32", 4, 2),
        (0, "bf16", 4, 1),  # for its fp32 master weights
        (3, "bf16", 4, 3),
        (0, "fp16", 1, 1),
        (1, "fp32", 1, 0),  # nothing to shard
        (3, "fp32", 1, 3),
    ],
)
def test_the_stage_that_deepspeed_is_given(stage, precision, ranks, expected):
    config = load_config(
        None, {"parallel": {"zero_stage": stage}, "training": {"precision": precision}}
    )
    assert zero_stage(config, ranks) == expected
    settings = deepspeed_config(config, ranks, 1000)
    assert settings["zero_optimization"]["stage"] == expected
    assert settings["zero_optimization"]["reduce_bucket_size"] == 1000
    assert settings["train_micro_batch_size_per_gpu"] == 128 // ranks
    ours = owns_norm(config, ranks)
    assert ours == (expected < 3 and precision != "fp16")
    assert settings["gradient_clipping"] == (0.0 if ours else 1.0)


def test_offloaded_state_stays_with_zero_on_one_rank():
    config = load_config(None, {"parallel": {"zero_stage": 1, "offload": "optimizer"}})
    assert zero_stage(config, 1) == 1
    assert not owns_norm(config, 1)
    settings = deepspeed_config(config, 1, 1000)["zero_optimization"]
    assert settings["offload_optimizer"]["device"] == "cpu"
    assert "offload_param" not in settings


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
