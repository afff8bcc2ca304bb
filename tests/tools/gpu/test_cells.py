"""One measurement: its clock, its micro-batches, its rate."""

import json

import pytest
import torch

from pretrain.errors import UserError
from tools.gpu import cells
from tools.gpu.cells import BLOCKS, Cell, Kind, Timer, measure
from tools.gpu.report import Options
from tools.gpu.stages import memory, speed


def no_room_above(most):
    def run(config, orders):
        tried.append(config.training.micro_batch)
        if config.training.micro_batch > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        orders.serve(lambda: None)

    tried = []
    return run, tried


def test_a_timer_warms_up_and_times_equal_blocks():
    timer, steps = Timer(seconds=0.0), 0
    while True:
        steps += 1
        if not timer.step_done():
            break
    assert steps == 2 + 1 + BLOCKS  # two that compile, one that is an estimate, one in each block
    assert len(timer.blocks) == BLOCKS
    assert timer.peak is None


def test_the_micro_batch_is_halved_until_there_is_room(monkeypatch):
    run, tried = no_room_above(2)
    monkeypatch.setitem(cells.KINDS, "plain", Kind(run))
    cell = Cell("124M", 1024, "plain", "cpu", tiny=True, micro_batch=8, seconds=0.01)
    found = measure(cell)
    assert tried == [8, 4, 2]
    assert (found["micro_batch"], found["first"], found["no_room"]) == (2, 8, [8, 4])
    tokens = found["global_batch"] * 32
    assert found["tokens_per_second"] == pytest.approx(tokens / found["step_seconds"])


def test_no_room_at_all_and_other_errors_are_said(monkeypatch):
    cell = Cell("124M", 1024, "plain", "cpu", tiny=True, micro_batch=2)
    monkeypatch.setitem(cells.KINDS, "plain", Kind(no_room_above(0)[0]))
    with pytest.raises(UserError, match=r"no room for one sequence; tried \[2, 1\]"):
        measure(cell)

    def broken(config, orders):
        raise RuntimeError("something else")

    monkeypatch.setitem(cells.KINDS, "plain", Kind(broken))
    with pytest.raises(RuntimeError, match="something else"):
        measure(cell)
    monkeypatch.setitem(cells.KINDS, "plain", Kind(broken, ("no_such_package",)))
    with pytest.raises(UserError, match="no_such_package not installed"):
        measure(cell)


def test_mfu_has_a_known_value():
    cell = Cell("350M", 1024, "ours")
    found = speed.rated(cell, {"tokens_per_second": 100_000.0}, "NVIDIA H100 80GB HBM3")
    assert found["mfu"] == pytest.approx(1e5 * found["flops_per_token"] / 989e12)
    assert speed.rated(cell, {"tokens_per_second": 1.0}, "CPU")["mfu"] is None


def figures(side, micro_batch=4, peak=40_000.0, step=1.0):
    return {
        "size": "350M", "sequence": 1024, "side": side, "device": "cuda", "tiny": False,
        "seconds": 4.0, "micro_batch": micro_batch, "global_batch": 16, "step_seconds": step,
        "tokens_per_second": 16 * 1024 / step, "device_peak_mib": peak, "mfu": 0.5,
    }  # fmt: skip


def test_all_sides_take_the_micro_batch_that_was_fastest_for_ours():
    parts = {"350M@1024 ours": figures("ours", micro_batch=16)}
    assert speed.chosen(parts, Cell("350M", 1024, "hugging_face")) == 16
    assert speed.chosen(parts, Cell("350M", 1024, "ours")) == 0
    assert speed.chosen(parts, Cell("1.3B", 1024, "plain")) == 0


def test_cells_come_in_the_order_that_tells_most_and_can_be_chosen(tmp_path):
    names = [cell.name for cell in speed.cells(Options(tmp_path))]
    assert names[0] == "350M@1024 ours"
    assert len(names) == len(set(names)) == 32
    some = speed.cells(Options(tmp_path, cells=("1.3B@4096", "plain_compiled_whole")))
    assert {cell.size for cell in some} == {"1.3B", "124M"}


def test_figures_of_an_earlier_call_are_taken_over(tmp_path, monkeypatch):
    from tools.gpu.report import Report

    earlier, out = tmp_path / "earlier", tmp_path / "out"
    earlier.mkdir()
    out.mkdir()
    parts = {"350M@1024 ours": figures("ours"), "350M@1024 plain": {"error": "no", "seconds": 1}}
    (earlier / "speed.json").write_text(json.dumps({"status": "failed", "parts": parts}))
    options = Options(out, "cpu", seconds=-1.0, earlier=earlier)
    monkeypatch.setattr(speed, "Worker", lambda stack, device: None)
    report = Report(out / "speed.json")
    speed.run(options, report)
    assert list(report.values["parts"]) == ["350M@1024 ours"]
    assert len(report.values["not_measured"]) == 31


def test_the_plan_is_held_to_what_was_measured():
    cell = Cell("350M", 1024, "ours")
    exact = memory.planned(cell, figures("ours"), "NVIDIA H100 80GB HBM3")
    known = figures("ours", peak=exact["planned_mib"] / 1.05)
    found = memory.planned(cell, known, "NVIDIA H100 80GB HBM3")
    assert found["away"] == pytest.approx(0.05, abs=1e-3)
    assert found["holds"]
    assert not memory.planned(cell, figures("ours", peak=9e9), "NVIDIA H100 80GB HBM3")["holds"]
    flops = 16 * 1024 * speed.rated(cell, known, "CPU")["flops_per_token"]
    assert found["planned_step_seconds"] == pytest.approx(flops / (0.45 * 989e12))
