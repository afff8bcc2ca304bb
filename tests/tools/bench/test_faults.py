"""The fault campaign: it hurts runs, and finds what is lost."""

import json
import random

import pytest

from tools.bench import faults
from tools.bench.fault_kinds import KINDS
from tools.bench.fault_runs import LAYOUTS, STEPS, Attempt, ended, state_of
from tools.bench.faults import Round, main, summary, table

ENDS_BY_ITSELF = "two starts at once"
"""The start that is let in goes on to the end of the run."""
MAY_FIT = ("full disk", "full volume of metadata")
"""Where the last checkpoint fits, the run ends without another start."""


@pytest.mark.distributed
@pytest.mark.parametrize("part", [0, 1])
def test_a_campaign_of_every_kind_loses_nothing(tmp_path, capsys, part):
    figures = tmp_path / "figures.json"
    kinds = list(KINDS)[part::2]
    rounds = len(kinds)
    options = ["--rounds", str(rounds), "--seed", "1", "--kinds", ",".join(kinds)]
    assert main([*options, "--json", str(figures)]) == 0
    found = json.loads(figures.read_text())
    assert found["lost"] == 0
    assert found["rounds"] + len(found["not_run"]) == rounds
    for kind, values in found["kinds"].items():
        assert values["rounds"] == 1
        if kind == ENDS_BY_ITSELF:
            assert values["starts"] == 0
        elif kind not in MAY_FIT:
            assert values["starts"] >= 1, kind
    assert set(found["kinds"]) | set(found["not_run"]) == set(kinds)
    assert "| all |" in capsys.readouterr().out


@pytest.mark.distributed
def test_a_run_that_ends_in_another_state_is_lost(tmp_path, monkeypatch):
    """What it is compared with is another layout's state."""
    monkeypatch.setitem(KINDS, "nothing", lambda directory, layout, logs, dice: None)
    dice = random.Random(0)
    logs = tmp_path / "logs"
    logs.mkdir()
    assert ended(tmp_path / "run", LAYOUTS[2], logs) == 1
    other = state_of(tmp_path / "run")
    assert len(other) == LAYOUTS[2].ranks
    same = faults.play("nothing", LAYOUTS[2], other, tmp_path / "same", dice)
    assert same.problem == ""
    assert not (tmp_path / "same").exists()
    wrong = dict.fromkeys(other, "another checksum")
    lost = faults.play("nothing", LAYOUTS[2], wrong, tmp_path / "lost", dice)
    assert "state differs in rank-00000" in lost.problem
    assert (tmp_path / "lost" / "run" / "result.json").exists()


def test_a_run_that_never_ends_is_lost(tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "nothing", lambda directory, layout, logs, dice: None)
    monkeypatch.setattr(Attempt, "__init__", lambda self, *_: None)
    monkeypatch.setattr(Attempt, "finish", lambda self: [1])
    found = faults.play("nothing", LAYOUTS[0], {}, tmp_path / "round", random.Random(0))
    assert "not complete after 8 starts" in found.problem


def test_lost_rounds_are_counted_by_kind_and_layout():
    done = [
        Round("flipped bit", LAYOUTS[0].name, 1, 2.0),
        Round("flipped bit", LAYOUTS[1].name, 3, 4.0, "state differs"),
        Round("full disk", LAYOUTS[0].name, 1, 1.0),
    ]
    found = summary(done, {"truncated file": "no reason"}, seed=5)
    assert (found["rounds"], found["lost"], found["starts"]) == (3, 1, 5)
    assert found["kinds"]["flipped bit"] == {"rounds": 2, "lost": 1, "starts": 4, "seconds": 6.0}
    assert found["layouts"][LAYOUTS[0].name]["lost"] == 0
    assert found["problems"] == ["state differs"]
    lines = table(found).splitlines()
    assert "| flipped bit | 2 | 4 | 1 |" in lines
    assert "| all | 3 | 5 | 1 |" in lines
    assert lines[-2:] == ["not run: truncated file: no reason", "state differs"]


def test_runs_save_evaluate_and_refresh_on_the_way():
    from tools.bench.fault_runs import COMMON, EVALUATE_EVERY, SAVE_EVERY

    assert COMMON["model.dropout"] > 0
    assert STEPS % SAVE_EVERY
    assert STEPS > 2 * EVALUATE_EVERY
    assert any("selection.refresh_every" in layout.options for layout in LAYOUTS)
