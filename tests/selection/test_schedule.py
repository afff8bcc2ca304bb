"""The selector in a job: loaded, refreshed, saved and restored, on any number of ranks."""

import json
from pathlib import Path

import numpy as np
import pytest

from pretrain.config import Config, load_config
from pretrain.data.batch import Sampler
from pretrain.distributed import topology
from pretrain.distributed.ranks import discover
from pretrain.errors import ConfigError, UserError
from pretrain.selection.schedule import SelectionSchedule
from pretrain.selection.table.manifest import read_manifest
from pretrain.selection.table.positions import count_positions
from pretrain.testing.processes import run_gang
from tools.fit_selection import main as fit_selection


def make_config(**selection) -> Config:
    return load_config(
        None,
        {
            "selection": {"estimator": "pairwise", **selection},
            "training": {"global_batch": 12, "seed": 5},
            "run": {"progress": False},
        },
    )


def schedule_of(config: Config, here: topology.Topology) -> SelectionSchedule:
    task = config.data.build(config)
    return SelectionSchedule(config, here, task.fitter, Sampler(task.examples, 12, 5))


def test_a_table_that_belongs_to_the_run_is_used_and_another_is_refused(tmp_path):
    folder = tmp_path / "t"
    with topology.start(make_config()) as here:
        fitted = schedule_of(make_config(), here).current.selection
        written = schedule_of(make_config(table=folder), here).current.selection
        assert folder.exists()
        loaded = schedule_of(make_config(table=folder), here).current.selection
        with pytest.raises(UserError, match="does not belong to this run"):
            schedule_of(make_config(table=folder, estimator="joint"), here)
    assert fitted.bits == written.bits == loaded.bits
    assert fitted.fingerprint == written.fingerprint == loaded.fingerprint


def test_a_table_is_of_no_use_where_nothing_is_counted():
    with pytest.raises(ConfigError, match=r"selection.table .* no use to selection.strategy ntp"):
        make_config(strategy="ntp", table="x")
    with pytest.raises(ConfigError, match=r"refresh_every 3: estimator v_information has no table"):
        make_config(estimator="v_information", refresh_every=3)


def refreshed(folder: str, steps: int) -> list[str]:
    """Fingerprints of the selection of each step; saved after the last."""
    config = make_config(refresh_every=3)
    with topology.start(config) as here:
        schedule = schedule_of(config, here)
        prints = [schedule(step).selection.fingerprint for step in range(steps)]
        schedule.save(Path(folder))
    return prints


def resumed(folder: str, first: int, steps: int) -> list[str]:
    config = make_config(refresh_every=3)
    with topology.start(config) as here:
        schedule = schedule_of(config, here)
        schedule.restore(Path(folder))
        return [schedule(step).selection.fingerprint for step in range(first, steps)]


@pytest.mark.distributed
def test_a_refresh_counts_the_batches_and_is_the_same_for_any_number_of_ranks(tmp_path):
    single = run_gang(1, [(refreshed, str(tmp_path / "1"), 8)])[0][0]
    assert single[0] == single[2] != single[3] == single[5] != single[6]
    for ranks in (2, 3):
        assert run_gang(ranks, [(refreshed, str(tmp_path / str(ranks)), 8)])[0] == [single] * ranks
    assert len({read_manifest(tmp_path / str(n)).fingerprint for n in (1, 2, 3)}) == 1
    # Steps 6 and 7 were asked for, the table knows 0 to 5: going on from step 5 or 6 is the same.
    for first in (5, 6):
        assert run_gang(1, [(resumed, str(tmp_path / "2"), first, 8)])[0][0] == single[first:]
    # By hand: the training split and the batches of steps 0 to 5.
    config = make_config()
    task = config.data.build(config)
    train = task.dataset.train
    sampler = Sampler(len(train), 12, 5)
    seen = np.concatenate([sampler.indices(step, 0, 1) for step in range(6)])
    everything = np.concatenate([np.arange(len(train)), seen])
    table = count_positions(
        train.features[everything], train.target[everything], [(i,) for i in range(4)], 10
    )
    by_hand = task.fitter.select(table)
    assert by_hand.fingerprint == single[7]


def run(directory: str, parallel: dict) -> None:
    from pretrain.training import job

    config = load_config(
        None,
        {
            "model": {"hidden_size": 32, "sequence_length": 10},
            "parallel": parallel,
            "selection": {"estimator": "pairwise", "refresh_every": 2},
            "optimizer": {"warmup_steps": 1},
            "training": {"steps": 5, "global_batch": 8, "evaluation_examples": 30},
            "checkpoint": {"save_final": False},
            "run": {"directory": directory, "log_every": 1, "progress": False},
        },
    )
    job.run(config, discover())


@pytest.mark.distributed
def test_a_run_with_refreshes_does_not_depend_on_the_layout(tmp_path):
    layouts = {"dp": {}, "pp": {"pipeline": 2}, "tp": {"tensor": 2}}
    run_gang(2, [(run, str(tmp_path / name), layout) for name, layout in layouts.items()])

    def read(name: str, file: str) -> list[dict]:
        return [json.loads(line) for line in (tmp_path / name / file).read_text().splitlines()]

    expected = [(line["step"], line["fingerprint"]) for line in read("dp", "selection.jsonl")]
    assert [step for step, _ in expected] == [0, 2, 4]
    losses = [line["loss"] for line in read("dp", "metrics.jsonl")]
    for name in ("pp", "tp"):
        found = [(line["step"], line["fingerprint"]) for line in read(name, "selection.jsonl")]
        assert found == expected
        assert [line["loss"] for line in read(name, "metrics.jsonl")] == pytest.approx(
            losses, rel=1e-5
        )
    last = json.loads((tmp_path / "dp" / "selection.json").read_text())
    assert last["fingerprint"] == expected[-1][1]


@pytest.mark.distributed
def test_a_table_fitted_as_a_job_is_loaded_by_a_run(tmp_path, capsys):
    folder = str(tmp_path / "t")
    arguments = ["--selection.estimator", "pairwise", "--out", folder, "--json"]
    assert fit_selection(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    with topology.start(make_config(table=folder)) as here:
        assert (
            schedule_of(make_config(table=folder), here).current.selection.fingerprint
            == report["selection"]["fingerprint"]
        )
