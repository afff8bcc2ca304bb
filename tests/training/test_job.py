"""A whole run on several layouts: what it leaves behind is the same."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pretrain.config import load_config
from pretrain.distributed.ranks import discover
from pretrain.testing.processes import call_on, run_gang

LAYOUTS = {
    "dp": {},
    "zero3": {"zero_stage": 3},
    "tp": {"tensor": 2},
    "pp": {"pipeline": 2},
}


def run(directory: str, parallel: dict, **sections: dict) -> int:
    from pretrain.training import job

    config = load_config(
        None,
        {
            "model": {"hidden_size": 32, "sequence_length": 10},
            "parallel": parallel,
            "optimizer": {"warmup_steps": 1},
            "training": {"steps": 4, "global_batch": 8, "evaluation_examples": 30},
            "checkpoint": {"save_every": 2},
            "run": {"directory": directory, "log_every": 1, "progress": False},
            **sections,
        },
    )
    return job.run(config, discover())


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp(name) / "run" for name in LAYOUTS}
    run_gang(2, [(run, str(folders[name]), layout) for name, layout in LAYOUTS.items()])
    return folders


def weights(folder: Path, step: int) -> dict[str, np.ndarray]:
    from pretrain.training.checkpoint.manifest import folder_name, read_manifest
    from pretrain.training.checkpoint.tensor_files import PieceReader

    checkpoint = folder / "checkpoints" / folder_name(step)
    reader = PieceReader.alone([checkpoint / name for name in read_manifest(checkpoint).rank_files])
    return {name: reader.full(name).numpy() for name in reader.wholes}


def determined(name: str, array: np.ndarray) -> np.ndarray:
    """The part of a parameter that the loss determines.

    A key's bias adds the same to every score of a query, so its gradient is rounding noise, which
    Adam scales up. Query, key and value lie next to each other head by head (4 heads here).
    """
    if name.endswith("linear_qkv.bias"):
        return array.reshape(4, 3, -1)[:, [0, 2]]
    return array


@pytest.mark.distributed
@pytest.mark.parametrize("name", list(LAYOUTS))
def test_losses_and_scores_do_not_depend_on_the_layout(runs, name):
    def read(folder: Path) -> tuple[list[float], float, str]:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        result = json.loads((folder / "result.json").read_text())
        losses = [json.loads(line)["loss"] for line in lines]
        return losses, result["unit_accuracy"], result["fingerprint"]

    losses, accuracy, fingerprint = read(runs[name])
    expected = read(runs["dp"])
    assert losses == pytest.approx(expected[0], rel=1e-5)
    assert accuracy == pytest.approx(expected[1])
    assert fingerprint == expected[2]


@pytest.mark.distributed
@pytest.mark.parametrize("name", ["zero3", "tp", "pp"])
def test_checkpoints_hold_the_whole_model_whatever_the_layout(runs, name):
    for step in (2, 4):
        plain, split = (weights(runs[each], step) for each in ("dp", name))
        assert plain.keys() == split.keys()
        for parameter, array in plain.items():
            got, expected = determined(parameter, split[parameter]), determined(parameter, array)
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6, err_msg=parameter)


@pytest.mark.distributed
def test_no_half_written_file_is_left(runs):
    for folder in runs.values():
        assert not list(folder.rglob("*.partial"))


BRIEF = {"steps": 5, "global_batch": 8, "evaluation_examples": 30}


@pytest.mark.distributed
@pytest.mark.parametrize("parallel", [{"zero_stage": 1}, {"tensor": 2}], ids=str)
def test_a_run_that_is_stopped_after_every_step_leaves_what_an_undisturbed_one_does(
    parallel, tmp_path
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    refreshed = {"refresh_every": 2}
    assert call_on(2, partial(run, training=BRIEF, selection=refreshed), whole, parallel) == [
        0,
        0,
    ]
    at_once = {**BRIEF, "max_minutes": 1e-9}
    codes = []
    while not codes or codes[-1] == [75, 75]:
        again = partial(run, training=at_once, selection=refreshed)
        codes.append(call_on(2, again, parts, parallel))
        assert len(codes) <= 5
    assert codes == [[75, 75]] * 4 + [[0, 0]]
    expected, found = weights(whole, 5), weights(parts, 5)
    assert all(np.array_equal(found[name], array) for name, array in expected.items())

    def lines(folder: Path, name: str, key: str) -> list[object]:
        text = (folder / f"{name}.jsonl").read_text()
        return [json.loads(line)[key] for line in text.splitlines()]

    assert lines(parts, "metrics", "loss") == lines(whole, "metrics", "loss")
    assert lines(parts, "evaluation", "metrics") == lines(whole, "evaluation", "metrics")
    assert sorted(path.name for path in (parts / "checkpoints").iterdir()) == [
        "step-00000004",
        "step-00000005",
    ]


def test_a_run_of_another_model_is_not_gone_on_with(tmp_path):
    stopped = {**BRIEF, "max_minutes": 1e-9}
    assert call_on(1, partial(run, training=stopped), tmp_path / "run", {}) == [75]
    other = {"hidden_size": 64, "sequence_length": 10}
    with pytest.raises(RuntimeError, match=r"model\.hidden_size was 32 and is 64; put them back"):
        call_on(1, partial(run, training=BRIEF, model=other), tmp_path / "run", {})
    assert call_on(1, partial(run, training=BRIEF), tmp_path / "run", {}) == [0]


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(tmp_path, capfd):
    folder = tmp_path / "run"
    stopped = {**BRIEF, "max_minutes": 1e-9}
    step = (partial(run, training=stopped), str(folder), {})
    assert run_gang(1, [step, step]) == [[75], [75]]
    (file,) = (folder / "checkpoints" / "step-00000002").glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert run_gang(1, [step]) == [[75]]
    out, err = capfd.readouterr()
    assert f"warning: skipped {file}: its content is not what was written" in err
    assert "step-00000001, 1 steps done" in out


def kept(folder: Path) -> dict[str, bytes]:
    """What a run's files hold, but for where its ranks stand now."""
    files = [path for path in folder.glob("*.*") if path.name != "ranks.json"]
    return {path.name: path.read_bytes() for path in files}


def test_a_second_run_in_the_folder_of_a_living_one_is_refused(tmp_path):
    """It says whose the folder is, and changes nothing there."""
    import subprocess
    import sys

    folder = tmp_path / "run"
    hold = (
        "import sys\nfrom pathlib import Path\nfrom pretrain.training.run_directory import *\n"
        "with RunDirectory(Path(sys.argv[1])).locked():\n    print(flush=True)\n    input()\n"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", hold, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert first.stdout is not None
    first.stdout.readline()
    (folder / "stop").touch()
    before = sorted(path.name for path in folder.iterdir())
    anew = {"directory": folder, "overwrite": True, "progress": False}
    told = rf"{folder} is in use by a run that has not ended: process {first.pid} on "
    with pytest.raises(RuntimeError, match=told):
        call_on(1, partial(run, training=BRIEF, run=anew), str(folder), {})
    assert sorted(path.name for path in folder.iterdir()) == before
    first.kill()
    first.wait()
    assert call_on(1, partial(run, training=BRIEF), str(folder), {}) == [0]


def test_a_start_that_is_refused_leaves_the_folder_as_it_was(tmp_path):
    folder = tmp_path / "run"
    stopped = {**BRIEF, "max_minutes": 1e-9}
    assert call_on(1, partial(run, training=stopped), str(folder), {}) == [75]
    before = kept(folder)
    other = {"learning_rate": 0.5, "warmup_steps": 1}
    with pytest.raises(RuntimeError, match=r"optimizer\.learning_rate was"):
        call_on(1, partial(run, training=BRIEF, optimizer=other), str(folder), {})
    assert kept(folder) == before
