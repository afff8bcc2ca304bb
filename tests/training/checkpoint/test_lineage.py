"""Which checkpoint comes from which, and what becomes of those that are no longer on the line."""

import json
import os
from functools import partial
from pathlib import Path

import pytest

from pretrain.errors import UserError
from pretrain.testing.processes import call_on
from pretrain.training.checkpoint.lineage import (
    ABANDONED,
    PASSED_OVER,
    check_descent,
    place_of,
    put_back,
    set_aside,
)
from pretrain.training.checkpoint.manifest import (
    Ancestor,
    CheckpointError,
    Manifest,
    complete,
    folder_name,
    newest_first,
    read_manifest,
    saved_step,
)
from tests.training.test_job import BRIEF, kept, run


def folders(directory: Path, *steps: int) -> Path:
    for step in steps:
        (directory / folder_name(step)).mkdir(parents=True)
        (directory / folder_name(step) / "manifest.json").write_text("{}")
    return directory


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_is_set_aside_is_not_found_any_more_and_overwrites_nothing(tmp_path):
    folders(tmp_path, 10, 20, 30)
    moved = set_aside(tmp_path, 10, ABANDONED)
    assert [path.name for path in moved] == ["step-00000030.abandoned", "step-00000020.abandoned"]
    assert saved_step(tmp_path) == 10
    folders(tmp_path, 20, 30)
    set_aside(tmp_path, 20, PASSED_OVER)
    folders(tmp_path, 30)
    set_aside(tmp_path, 10, ABANDONED)
    assert names(tmp_path) == [
        "step-00000010", "step-00000020.abandoned", "step-00000020.abandoned-2",
        "step-00000030.abandoned", "step-00000030.abandoned-2", "step-00000030.passed",
    ]  # fmt: skip
    assert put_back(tmp_path / "step-00000030.abandoned").name == "step-00000030"
    assert [path.name for path in complete(tmp_path)] == ["step-00000030"]


def test_what_a_path_names(tmp_path):
    checkpoints = folders(tmp_path / "run" / "checkpoints", 10, 20)
    assert place_of(checkpoints / "step-00000010") == (checkpoints / "step-00000010", False)
    assert place_of(tmp_path / "run") == (checkpoints, True)
    assert place_of(checkpoints) == (checkpoints, True)
    aside = set_aside(checkpoints, 10, ABANDONED)[0]
    assert place_of(aside) == (aside, False)
    imported = tmp_path / "imported"
    imported.mkdir()
    (imported / "manifest.json").touch()
    assert place_of(imported) == (imported, False)
    with pytest.raises(CheckpointError, match="holds no complete checkpoint; name a run's folder"):
        place_of(tmp_path)
    with pytest.raises(CheckpointError, match="is not there; name a run's folder"):
        place_of(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_looked_into_is_not_an_empty_one(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(CheckpointError, match="Permission denied"):
        list(newest_first(tmp_path))


def test_manifests_of_format_1_are_read(tmp_path):
    old = {
        "step": 7, "tokens": 70, "updates": 7, "layout": "one", "fingerprint": "abc", "config": {},
        "finished": "now", "state": {}, "files": {}, "format": 1,
    }  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(old))
    found = read_manifest(tmp_path)
    assert (found.run, found.parent, found.origin) == ("", None, None)
    parent = Ancestor("r", 3, "ab")
    new = Manifest(7, 70, 7, "one", "abc", {}, "now", run="r", parent=parent)
    (tmp_path / "manifest.json").write_text(new.to_json())
    assert read_manifest(tmp_path) == new


def test_another_runs_checkpoint_is_gone_on_from_only_where_the_own_ones_come_from_it():
    def made(name: str, origin: Ancestor | None = None) -> Manifest:
        return Manifest(7, 70, 7, "one", "abc", {}, "now", run=name, origin=origin)

    first, here, there = made("a"), Path("here"), Path("there")
    check_descent(made("b", Ancestor("a", 7, "")), here, first, there)
    check_descent(made(""), here, first, there)  # of format 1: nobody knows
    for own in (made("b"), made("b", Ancestor("c", 7, ""))):
        with pytest.raises(UserError, match="there: the run's folder has checkpoints of its own"):
            check_descent(own, here, first, there)


def trained(folder: Path, steps: int = 5, code: int = 0, **checkpoint) -> None:
    settings = {"save_every": 1, "keep_last": 0, **checkpoint}
    stopped = {} if code == 0 else {"max_minutes": 1e-9}
    started = partial(run, training={**BRIEF, "steps": steps, **stopped}, checkpoint=settings)
    assert call_on(1, started, str(folder), {}) == [code]


def steps_in(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("keep_last", [1, 2])
def test_going_back_keeps_what_is_gone_on_from_and_sets_the_rest_aside(tmp_path, keep_last):
    folder = tmp_path / "run"
    checkpoints = folder / "checkpoints"
    trained(folder, 5)
    goal = str(checkpoints / "step-00000002")
    trained(folder, 5, 75, resume=goal, keep_last=keep_last)
    assert [path.name for path in complete(checkpoints)] == ["step-00000003", "step-00000002"]
    assert "step-00000005.abandoned" in names(checkpoints)
    assert not (folder / "result.json").exists()
    assert (folder / "abandoned" / "result-00000005.json").exists()
    assert steps_in(folder / "metrics.jsonl") == [1, 2, 3]
    assert steps_in(folder / "abandoned" / "metrics.jsonl") == [3, 4, 5]
    second, third = (read_manifest(checkpoints / folder_name(step)) for step in (2, 3))
    assert third.run == second.run != ""
    assert (third.parent.run, third.parent.step) == (second.run, 2)
    # The same command without checkpoint.resume goes on from there.
    trained(folder, 5, 75, keep_last=keep_last)
    assert saved_step(checkpoints) == 4
    # And to one that was set aside.
    trained(folder, 7, 75, resume=str(checkpoints / "step-00000005.abandoned"))
    assert [path.name for path in complete(checkpoints)] == ["step-00000006", "step-00000005"]


def test_a_damaged_newest_one_does_not_thin_out_what_is_saved_after_it(tmp_path):
    folder = tmp_path / "run"
    checkpoints = folder / "checkpoints"
    trained(folder, 4)
    (folder / "result.json").unlink()
    (checkpoints / "step-00000004" / "manifest.json").unlink()
    os.truncate(next((checkpoints / "step-00000003").glob("rank-*")), 9)
    trained(folder, 8, 75, keep_last=1)
    assert [path.name for path in complete(checkpoints)] == ["step-00000003", "step-00000002"]
    assert {"step-00000003.abandoned", "step-00000004.abandoned"} <= set(names(checkpoints))


def test_no_usable_checkpoint_beside_others_is_refused_and_nothing_changes(tmp_path):
    folder = tmp_path / "run"
    checkpoints = folder / "checkpoints"
    trained(folder, 2)
    (folder / "result.json").unlink()
    os.truncate(next((checkpoints / "step-00000002").glob("rank-*")), 9)
    (checkpoints / "step-00000001" / "manifest.json").unlink()
    before = kept(folder)
    told = (
        r"(?s)no checkpoint there can be used:\s+\S+step-00000002\S+: 9 bytes.*\s+"
        r"\S+step-00000001: incomplete.*put the files back"
    )
    for resume in ("auto", "latest", str(folder)):
        with pytest.raises(RuntimeError, match=told):
            trained(folder, 3, resume=resume)
        assert kept(folder) == before


def test_a_run_begins_with_the_newest_of_another_runs_folder_and_goes_on_with_its_own(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    trained(first, 3)
    trained(second, 5, 75, resume=str(first))
    assert steps_in(second / "metrics.jsonl") == [4]
    own = read_manifest(second / "checkpoints" / "step-00000004")
    assert own.origin == own.parent
    assert own.origin.run == read_manifest(first / "checkpoints" / "step-00000003").run != own.run
    trained(second, 5, resume=str(first))
    assert steps_in(second / "metrics.jsonl") == [4, 5]
    other = tmp_path / "other"
    trained(other, 2)
    with pytest.raises(RuntimeError, match="did not begin with it"):
        trained(second, 6, resume=str(other))


@pytest.mark.parametrize("resume", ["auto", "latest"])
def test_a_complete_run_goes_on_to_more_steps_and_to_no_fewer(tmp_path, resume, capfd):
    folder = tmp_path / "run"
    trained(folder, 3, save_every=0)
    trained(folder, 5, resume=resume, save_every=0)
    assert steps_in(folder / "metrics.jsonl") == [1, 2, 3, 4, 5]
    assert json.loads((folder / "result.json").read_text())["steps"] == 5
    assert json.loads((folder / "abandoned" / "result-00000003.json").read_text())["steps"] == 3
    assert "training.steps was 3 and is 5: cosine had ended at" in capfd.readouterr().out
    for steps in (5, 4):
        with pytest.raises(
            RuntimeError, match=r"complete after 5 steps; more training.steps go on"
        ):
            trained(folder, steps, resume=resume)


def test_a_complete_run_without_a_checkpoint_is_not_begun_again(tmp_path):
    trained(tmp_path / "run", 2, save_every=0, save_final=False)
    with pytest.raises(RuntimeError, match="and without a checkpoint to go on from"):
        trained(tmp_path / "run", 4)
