"""The proof as a whole: limits, failures, and the stages that a CPU runs in seconds."""

import json
import subprocess
import sys
import time

import pytest

from tools.gpu import prove, report
from tools.gpu.prove import GRACE, STAGES, Stage, limits, main
from tools.gpu.report import ROOT, Options, Report
from tools.gpu.tables import summary


def test_the_stage_without_a_limit_takes_what_others_leave():
    names = [stage.name for stage in STAGES]
    assert names == ["start", "parity", "selection", "kernels", "speed", "memory"]
    assert limits(STAGES, 0, 500.0) == 110.0
    assert limits(STAGES, 3, 12.0) == 12.0
    assert limits(STAGES, 4, 400.0) == 400.0 - 20.0 - 2 * GRACE
    assert sum(stage.seconds or 0 for stage in STAGES) < 330  # of 540; the rest is speed's


def test_unknown_options_are_refused(tmp_path, capsys):
    for option in (["--only", "nothing"], ["--minutes", "0"], ["--earlier", "nowhere"]):
        assert main(["--out", str(tmp_path), *option]) == 2
        assert f"error: {option[0]} {option[1]}" in capsys.readouterr().err


def stage_that(tmp_path, monkeypatch, code):
    """Let every stage be `code`, run as a program with the options of a stage."""
    program = tmp_path / "stage.py"
    program.write_text(
        "import pathlib, sys, time\n"
        "out = pathlib.Path(sys.argv[sys.argv.index('--out') + 1])\n"
        f"name = sys.argv[1]\n{code}\n"
    )
    popen = subprocess.Popen

    def start(command, **options):
        return popen([sys.executable, str(program), *command[3:]], **options)

    monkeypatch.setattr(prove.subprocess, "Popen", start)


def test_a_stage_that_breaks_or_hangs_does_not_keep_the_next_from_running(
    tmp_path, monkeypatch, capsys
):
    code = """
if name == 'start':
    (out / 'start.json').write_text('{"status": "running", "parts": {"a": {"figure": 7}}}')
    time.sleep(60)
if name == 'parity':
    sys.exit(3)
(out / (name + '.json')).write_text('{"status": "ok", "parts": {"a": {"seconds": 1}}}')
"""
    stage_that(tmp_path, monkeypatch, code)
    monkeypatch.setattr(prove, "GRACE", 0.2)
    monkeypatch.setattr(
        prove, "STAGES", (Stage("start", 0.5), Stage("parity", 20.0), Stage("kernels", 20.0))
    )
    out = tmp_path / "out"
    assert main(["--out", str(out)]) == 1
    found = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    assert found["start"]["status"] == "failed"
    assert found["start"]["ended"].startswith("stopped after")
    assert found["start"]["parts"]["a"] == {"figure": 7}  # what it had is kept
    assert (found["parity"]["status"], found["parity"]["ended"]) == ("failed", "ended with 3")
    assert found["kernels"]["status"] == "ok"
    assert "start: stopped after" in capsys.readouterr().out
    assert "parity: ended with 3" in (out / "summary.md").read_text()


def test_a_part_that_fails_is_written_and_the_next_one_runs(tmp_path):
    file = tmp_path / "speed.json"
    written = Report(file)
    assert json.loads(file.read_text())["status"] == "running"
    with written.part("one"):
        raise ValueError("on purpose")
    with written.part("two") as figures:
        figures["value"] = 1
    written.end()
    found = json.loads(file.read_text())
    assert found["status"] == "failed"
    assert found["parts"]["one"]["error"] == "ValueError: on purpose"
    assert found["parts"]["two"]["value"] == 1
    assert Report.of(file).values == found


def test_a_program_that_fails_is_named_with_what_it_said():
    with pytest.raises(RuntimeError, match=r"ended with 2: .*bad"):
        report.python(["-c", "import sys; print('bad'); sys.exit(2)"], 20.0)
    with pytest.raises(subprocess.TimeoutExpired):
        report.python(["-c", "import time; time.sleep(30)"], 1.0)


def test_the_summary_has_a_line_for_each_part_and_cell(tmp_path):
    def write(name, parts, **more):
        values = {"status": "ok", "parts": parts, **more}
        (tmp_path / f"{name}.json").write_text(json.dumps(values))

    machine = {"device": "NVIDIA H100", "python": "3.12", "packages": {"torch": "2.11"}}
    write("start", {"environment": {**machine, "seconds": 1}})
    write("parity", {"waits": {"holds": False, "waits": {"a.py:1": 2}, "seconds": 1}})
    cell = {"size": "350M", "sequence": 1024, "micro_batch": 8, "mfu": 0.5, "step_seconds": 2.0}
    ours = {**cell, "side": "ours_compiled", "tokens_per_second": 300.0, "device_peak_mib": 2048}
    plain = {**cell, "side": "plain_compiled", "tokens_per_second": 200.0, "device_peak_mib": None}
    names = [f"350M@1024 {side}" for side in ("ours_compiled", "plain_compiled", "hugging_face")]
    parts = dict(zip(names, (ours, plain, {"error": "no | room", "seconds": 1}), strict=True))
    write("speed", parts, not_measured=["1.3B@4096 ours"])
    plan = {"planned_mib": 2150.4, "away": 0.05, "planned_step_seconds": 2.5}
    write("memory", {names[0]: plan})
    text = summary(Options(tmp_path))
    assert text.startswith("NVIDIA H100, torch 2.11, Python 3.12\n")
    assert "| parity | waits | **does not hold**: 2 x a.py:1 |" in text
    row = "| 350M | 1,024 | ours compiled | 8 | 300 | 50.0% | 2.0 GiB | 2.1 GiB (+5%) | 2.000 s | 2.500 s |"  # fmt: skip # noqa: E501
    assert row in text
    assert "| plain compiled | 8 | 200 | 50.0% |  |  | 2.000 s |  | 1.500 |" in text
    assert "350M@1024 hugging_face: no / room" in text
    assert "no time was left for 1.3B@4096 ours" in text


@pytest.mark.distributed
def test_the_shortest_stages_run_on_a_cpu(tmp_path):
    """Each writes its file; the planner's is handed what speed would have measured."""
    from tests.tools.gpu.test_cells import figures

    earlier, out = tmp_path / "earlier", tmp_path / "out"
    earlier.mkdir()
    measured = {"status": "ok", "parts": {"350M@1024 ours": figures("ours")}}
    (earlier / "speed.json").write_text(json.dumps(measured))
    command = ["bash", "tools/gpu/prove.sh", "--out", str(out), "--earlier", str(earlier)]
    command += ["--device", "cpu", "--tiny", "--only", "kernels,memory", "--minutes", "4"]
    started = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    log = (out / "prove.log").read_text()
    found = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    assert found["kernels"]["status"] == "ok", log
    loss = found["kernels"]["parts"]["loss"]
    assert loss["ours"]["loss"] == pytest.approx(loss["all logits"]["loss"], rel=2e-2)
    assert found["memory"]["parts"]["350M@1024 ours"]["planned_mib"] > 0
    assert "| kernels | loss | ours" in done.stdout
    assert found["kernels"]["seconds"] < time.monotonic() - started


def environment():
    import os

    return {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
