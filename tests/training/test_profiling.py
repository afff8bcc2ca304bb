"""Traces of single steps."""

import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from pretrain import spans
from pretrain.config import load_config
from pretrain.distributed.ranks import discover
from pretrain.errors import ConfigError
from pretrain.testing.processes import run_gang

NAMES = {"data", "selection", "forward", "backward", "reduction", "optimizer"}
SETTINGS = {
    "two zero_0": {},
    "two zero_2": {"zero_stage": 2},
    "two zero_3": {"zero_stage": 3},
    "two pipeline": {"pipeline": 2},
}


def run(directory: str, parallel: dict) -> bool:
    from pretrain.training import job

    config = load_config(
        None,
        {
            "model": {"hidden_size": 32, "sequence_length": 10},
            "parallel": parallel,
            "optimizer": {"warmup_steps": 1},
            "training": {
                "steps": 8,
                "global_batch": 8,
                "micro_batch": 2,
                "evaluation_examples": 30,
            },
            "checkpoint": {"save_final": False},
            "run": {"directory": directory, "progress": False, "tensorboard": False},
            "profile": {"steps": "2:4", "ranks": [0, 1]},
        },
    )
    job.run(config, discover())
    return spans._recording


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp(name.replace(" ", "_")) / "run" for name in SETTINGS}
    calls = [(run, str(made[name]), parallel) for name, parallel in SETTINGS.items()]
    still_on = run_gang(2, calls)
    assert still_on == [[False, False]] * len(SETTINGS)
    return made


def ranges(file: Path) -> list[dict]:
    with gzip.open(file, "rt") as lines:
        events = json.load(lines)["traceEvents"]
    return [e for e in events if e.get("cat") == "user_annotation" and e["name"] in NAMES]


def holds(outer: dict, inner: dict) -> bool:
    return (
        outer["tid"] == inner["tid"]
        and outer["ts"] <= inner["ts"]
        and inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"]
    )


@pytest.mark.distributed
@pytest.mark.parametrize("name", list(SETTINGS))
def test_each_rank_asked_for_writes_one_trace_with_all_names(folders, name):
    files = sorted(path.name for path in (folders[name] / "profile").iterdir())
    assert files == ["steps-2-4-rank-0.json.gz", "steps-2-4-rank-1.json.gz"]
    for file in files:
        assert {e["name"] for e in ranges(folders[name] / "profile" / file)} == NAMES


@pytest.mark.distributed
@pytest.mark.parametrize("name", list(SETTINGS))
def test_only_the_steps_asked_for_are_in_it(folders, name):
    found = ranges(folders[name] / "profile" / "steps-2-4-rank-0.json.gz")
    count = {n: sum(e["name"] == n for e in found) for n in NAMES}
    micro_batches = 4 if name == "two pipeline" else 2
    assert count["optimizer"] == 2
    assert count["data"] == 4  # waiting, and moving to the device
    assert count["forward"] == count["backward"] == 2 * micro_batches


@pytest.mark.distributed
@pytest.mark.parametrize("name", list(SETTINGS))
def test_ranges_lie_in_each_other_as_the_step_does(folders, name):
    found = ranges(folders[name] / "profile" / "steps-2-4-rank-0.json.gz")
    of = {n: [e for e in found if e["name"] == n] for n in NAMES}
    step = of["optimizer"][0]["tid"]
    for n in ("data", "forward", "backward"):
        assert {e["tid"] for e in of[n]} == {step}
    assert step not in {e["tid"] for e in of["selection"]}  # in the feed's thread
    parts = of["data"] + of["forward"] + of["backward"] + of["optimizer"]
    assert not any(holds(a, b) for a in parts for b in parts if a is not b)
    if name != "two pipeline":
        assert all(any(holds(b, r) for b in of["backward"]) for r in of["reduction"])
    first, second = sorted(e["ts"] for e in of["optimizer"])
    assert any(first < e["ts"] < second for e in of["forward"])


def test_a_span_is_nothing_while_nothing_is_recorded():
    from contextlib import nullcontext

    assert isinstance(spans.span("forward"), nullcontext)
    spans.switch(True)
    try:
        assert not isinstance(spans.span("forward"), nullcontext)
    finally:
        spans.switch(False)


def test_a_method_is_itself_again_after_it_was_spanned():
    from pretrain.training.profiling import spanned

    class Owner:
        def double(self, x: int) -> int:
            return 2 * x

    owner = Owner()
    owner.triple = lambda x: 3 * x
    triple = owner.triple
    with spanned(owner, "double", "a"), spanned(owner, "triple", "b"):
        assert (owner.double(2), owner.triple(2)) == (4, 6)
        assert owner.triple is not triple
    assert owner.triple is triple
    assert "double" not in vars(owner)


def test_nothing_is_profiled_where_nothing_is_asked_for(tmp_path):
    from pretrain.training.profiling import Profiler

    topology = SimpleNamespace(ranks=SimpleNamespace(rank=1))
    for profile in ({}, {"steps": "1:2"}):
        settings = load_config(None, {"profile": profile}).profile
        assert Profiler.of(settings, topology, None, tmp_path) == []


@pytest.mark.parametrize(
    "profile,parts",
    [
        ({"steps": "10"}, ["profile.steps", "'10'"]),
        ({"steps": "12:10"}, ["profile.steps 12:10 holds no step", "12:13"]),
        ({"steps": 612}, ["profile.steps 612", "for example 10:12"]),
        ({"steps": "999:1001"}, ["profile.steps 999:1001", "training.steps 1000"]),
    ],
)
def test_steps_that_cannot_be_traced_are_refused(profile, parts):
    with pytest.raises(ConfigError) as refused:
        load_config(None, {"profile": profile})
    for part in parts:
        assert part in str(refused.value)


def test_ranks_that_are_not_there_are_refused():
    config = load_config(None, {"profile": {"steps": "0:1", "ranks": [0, 2]}})
    with pytest.raises(ConfigError, match=r"profile.ranks names rank 2, but there are 2 processes"):
        config.check_layout(2)


def test_steps_survive_a_yaml_file(tmp_path):
    config = load_config(None, {"profile": {"steps": "10:12"}})
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    again = load_config(tmp_path / "config.yaml")
    assert again.profile.window == (10, 12)
