import json

import pytest

from pretrain.config import load_config
from tools.bench import scaling
from tools.bench.scaling import LAYOUTS, ONE, main, side_of, sides_of, summary

SMALL = ["--model.layers", "1", "--model.hidden_size", "32", "--model.attention_heads", "4"]
SMALL += ["--model.sequence_length", "16", "--model.vocabulary_size", "64"]


def config():
    return load_config(
        None,
        {
            "model": {"layers": 2, "sequence_length": 10, "vocabulary_size": 64},
            "training": {"global_batch": 4},
            "run": {"device": "cpu"},
        },
    )


def test_speedup_and_efficiency_are_within_rounds(monkeypatch):
    monkeypatch.setattr(scaling, "cores", lambda: 2)
    seconds = {ONE: [1.0, 2.0], "2 dp": [0.5, 1.0], "4 dp": [0.5, 1.0]}
    strong = summary(config(), seconds, weak=False)
    assert strong["2 dp"]["speedup"] == 2.0
    assert strong["2 dp"]["efficiency"] == 1.0
    assert strong["4 dp"]["efficiency"] == 1.0  # four processes on two cores
    assert strong[ONE]["tokens_per_second"] == 30.0
    weak = summary(config(), {ONE: [1.0], "2 dp": [1.25]}, weak=True)
    assert weak["2 dp"]["speedup"] == 1.6
    assert weak["2 dp"]["efficiency"] == 0.8
    assert weak["2 dp"]["tokens_per_second"] == 64.0


def test_the_batch_grows_under_weak_scaling_only():
    def batch(weak: bool, layout: str) -> int:
        side = side_of(config(), LAYOUTS[layout], 2, weak)
        assert len(side.runs) == 2
        run, _ = side.runs[0]
        return run.args[0].training.global_batch

    assert batch(True, "dp") == 8
    assert batch(False, "dp") == 4
    assert batch(True, "apart") == 4  # each for itself


def test_processes_find_each_other_unless_they_are_apart():
    together = side_of(config(), LAYOUTS["tensor"], 2, weak=False)
    assert [env["RANK"] for _, env in together.runs] == ["0", "1"]
    assert len({env["MASTER_PORT"] for _, env in together.runs}) == 1
    assert together.runs[0][0].args[0].parallel.tensor == 2
    apart = side_of(config(), LAYOUTS["apart"], 2, weak=True)
    assert [env["WORLD_SIZE"] for _, env in apart.runs] == ["1", "1"]


def test_what_does_not_fit_is_left_out_with_its_reason(capsys):
    sides = sides_of(config(), ["dp", "tensor"], [1, 2, 8], weak=False)
    assert list(sides) == [ONE, "2 dp", "2 tensor"]
    said = capsys.readouterr().err
    assert "8 dp is left out: training.global_batch 4" in said
    assert "8 tensor is left out" in said


def test_unknown_layouts_are_refused(capsys):
    assert main(["--layouts", "ring"]) == 2
    assert "error: --layouts: unknown layout ring" in capsys.readouterr().err


@pytest.mark.distributed
def test_it_runs_and_prints_json(capsys):
    options = ["--processes", "1,2", "--layouts", "apart,dp_zero_1,tensor", "--rounds", "1"]
    assert main(["--json", *options, *SMALL]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["strong"]) == {ONE, "2 dp_zero_1", "2 tensor"}
    assert set(found["weak"]) == {ONE, "2 apart", "2 dp_zero_1"}
    assert found["weak"]["2 dp_zero_1"]["peak_mib_of_a_process"] > 0
