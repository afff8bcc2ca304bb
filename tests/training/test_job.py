"""A whole run on several layouts: what it leaves behind is the same."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from pretrain.config import load_config
from pretrain.ranks import discover
from tests.gang import run_gang

LAYOUTS = {
    "dp": {},
    "zero3": {"zero_stage": 3},
    "tp": {"tensor": 2},
    "pp": {"pipeline": 2},
}


def run(directory: str, parallel: dict) -> None:
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
        },
    )
    job.run(config, discover())


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp(name) / "run" for name in LAYOUTS}
    run_gang(2, [(run, str(folders[name]), layout) for name, layout in LAYOUTS.items()])
    return folders


def weights(folder: Path, step: int) -> dict[str, dict[str, np.ndarray]]:
    files = sorted((folder / "weights" / f"step-{step}").iterdir())
    return {file.name.removesuffix(".safetensors"): load_file(file) for file in files}


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
def test_weights_are_whole_under_zero_3(runs):
    for step in (2, 4):
        (plain,), (sharded,) = (weights(runs[name], step).values() for name in ("dp", "zero3"))
        assert plain.keys() == sharded.keys()
        for name in plain:
            got, expected = (determined(name, held[name]) for held in (sharded, plain))
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.distributed
def test_each_tensor_and_pipeline_rank_saves_its_part(runs):
    (plain,) = weights(runs["dp"], 4).values()
    split = weights(runs["tp"], 4)
    assert sorted(split) == ["tensor-0-pipeline-0", "tensor-1-pipeline-0"]
    name = "0.decoder.layers.1.mlp.linear_fc1.weight"
    joined = np.concatenate([part[name] for part in split.values()])
    np.testing.assert_allclose(joined, plain[name], rtol=1e-4, atol=1e-6)
    staged = weights(runs["pp"], 4)
    assert sorted(staged) == ["tensor-0-pipeline-0", "tensor-0-pipeline-1"]
    last = staged["tensor-0-pipeline-1"]["0.decoder.layers.0.mlp.linear_fc2.bias"]
    expected = plain["0.decoder.layers.1.mlp.linear_fc2.bias"]
    np.testing.assert_allclose(last, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.distributed
def test_no_half_written_file_is_left(runs):
    for folder in runs.values():
        assert not list(folder.rglob("*.partial"))
