"""Where a run stands, judged from made-up folders."""

import json

import pytest

from launcher.scheduler import Job
from launcher.watch.snapshot import take
from launcher.watch.state import judge


def state(made):
    return judge(take(made.path))


@pytest.mark.parametrize(
    "operation,name",
    [("forward", "training"), ("between steps", "training"), ("evaluation", "evaluating"),
     ("saving", "saving"), ("fit", "fitting"), ("start", "starting")],
)  # fmt: skip
def test_a_run_under_way_does_what_its_first_rank_does(made, operation, name):
    made.metrics().ranks({"operation": operation}, {})
    assert state(made).name == name
    assert state(made).under_way


def test_a_run_with_a_result_is_complete_whatever_ranks_json_says(made):
    made.metrics(200).ranks({"seconds_silent": 99.0})
    (made.path / "result.json").write_text('{"finished": "2026-01-02T03:04:05+0000"}')
    assert state(made).name == "complete"
    assert take(made.path).step == 200
    (made.path / "result.json").write_text('{"finished": "2026-')
    assert state(made).name == "silent"


def test_a_stopped_run_says_by_what(made):
    made.metrics().ranks({"operation": "done"}, age=100)
    (made.path / "stop").write_text("SIGUSR1\n")
    assert state(made).name == "stopped"
    assert "SIGUSR1" in state(made).detail
    (made.path / "stop").unlink()
    made.config("training: {steps: 200, max_minutes: 5}\n")
    assert "training.max_minutes" in state(made).detail


def test_a_run_that_was_asked_to_stop_and_goes_on_is_stopping(made):
    made.metrics().ranks({})
    (made.path / "stop").touch()
    assert state(made).name == "stopping"


def test_a_rank_that_failed_is_named_with_its_error(made):
    failed = {"operation": "done", "failed": "ValueError: no room"}
    made.metrics().ranks({"operation": "done"}, failed, age=100)
    assert state(made).name == "failed"
    assert "rank 1 on n0: ValueError: no room" in state(made).detail


def test_a_run_of_which_nothing_is_heard_is_lost_after_the_configured_silence(made):
    made.metrics().ranks({}, {"seconds_silent": 30.0, "operation": "backward"}, age=50)
    assert state(made).name == "silent"
    made.ranks({}, {"seconds_silent": 30.0, "operation": "backward"}, age=70)
    lost = state(made)
    assert lost.name == "lost"
    assert "rank 1 on n0 in step 101, backward" in lost.detail
    made.config("training: {steps: 200}\nrun: {silence_seconds: 300}\n")
    assert state(made).name == "silent"


def test_a_rank_that_stands_still_stalls_the_run_except_where_it_may(made):
    made.metrics(seconds=0.5).ranks({"seconds_still": 80.0}, {"seconds_still": 90.0})
    assert state(made).name == "stalled"
    assert "rank 1 on n0 has stood in step 101" in state(made).detail
    made.ranks({"seconds_still": 90.0, "operation": "evaluation"})
    assert state(made).name == "evaluating"
    made.metrics(seconds=60.0).ranks({"seconds_still": 90.0})
    assert state(made).name == "training"


def test_a_run_that_was_started_again_is_starting_until_its_first_beat(made):
    made.metrics().ranks({"operation": "done"}, age=100)
    made.age("config.yaml", 20)
    assert state(made).name == "starting"
    made.ranks({"operation": "done"}, age=9_000)
    made.age("config.yaml", 5_000)
    assert state(made).name == "lost"


@pytest.mark.parametrize(
    "verdict,name",
    [("requeued", "queued"), ("stopped", "stopped"), ("failed", "failed"), ("gave up", "failed")],
)
def test_the_batch_script_s_verdict_counts_after_the_last_beat(made, verdict, name):
    made.metrics().ranks({"operation": "done"}, age=50)
    made.attempts(("start", 0, 500, "", ""), ("end", 100, 10, verdict, "a node failed"))
    assert state(made).name == name
    assert "a node failed" in state(made).detail


def test_slurm_is_believed_about_jobs_that_wait(made, monkeypatch):
    made.attempts(("start", 0, 500, "", ""), ("end", 100, 10, "requeued", "wall time"))
    job = Job("7", "PENDING", "waiting", "Priority")
    monkeypatch.setattr("launcher.watch.snapshot._told", lambda number, tick: job)
    assert state(made).detail == "job 7 is PENDING (Priority)"


def test_restarts_come_from_the_launcher_s_record_or_from_selections(made):
    made.lines("selection.jsonl", [{"step": 0}, {"step": 40}, {"step": 60}])
    assert take(made.path).went_on_at == [40, 60]
    made.config("selection: {refresh_every: 20}\n")
    assert take(made.path).went_on_at == []
    made.attempts(("start", 0, 500, "", ""), ("end", 30, 400, "requeued", ""),
                  ("start", 30, 300, "", ""))  # fmt: skip
    assert take(made.path).went_on_at == [30]


def test_the_time_left_is_steps_left_times_the_median_step(made):
    made.metrics(100, seconds=0.5).ranks({}, step=104)
    assert take(made.path).seconds_left == pytest.approx(96 * 0.5)


@pytest.mark.parametrize(
    "name",
    ["config.yaml", "ranks.json", "metrics.jsonl", "result.json", "evaluation.jsonl",
     "selection.jsonl", "passed.json"],
)  # fmt: skip
@pytest.mark.parametrize("content", [b"", b"{", b"[]\n", b'{"ranks": 3, "time": null}\n', b"\xff"])
def test_files_that_hold_anything_else_do_not_end_the_dashboard(made, name, content):
    from rich.console import Console

    from launcher.watch.frame import frame

    made.metrics().ranks({}).checkpoint(50)
    (made.path / name).write_bytes(content)
    console = Console(width=80, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(frame(take(made.path), 80, 24))
    assert take(made.path).checkpoint.step == 50


def test_a_half_written_record_of_attempts_is_passed_over(made):
    made.metrics().ranks({})
    (made.path / "slurm").mkdir()
    (made.path / "slurm" / "attempts.jsonl").write_text('{"event": "start"}\n{"job"')
    assert state(made).name == "training"
    assert json.loads((made.path / "ranks.json").read_text())["interval"] == 1.0
