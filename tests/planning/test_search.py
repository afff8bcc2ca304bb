"""The search: what it lists, in which order, and what it says about the rest."""

from pathlib import Path
from typing import Any

import pytest

from pretrain.config import Config, load_config
from pretrain.errors import ConfigError
from pretrain.planning import Machine, make_plan, search, vocabulary_of
from pretrain.planning.plan import Plan
from tests.planning.reality import make_config

MACHINE = Machine("some device", 1e12, 0.4, link=1e10, network=1e9, node=8)


def config_of(**sections: Any) -> Config:
    return make_config(
        model={"preset": "llama", "layers": 8, "attention_heads": 4, "kv_heads": 2},
        training={"global_batch": 16, "precision": "bf16", "micro_batch": 1},
        **sections,
    )


def peaks(plans: list[Plan]) -> list[int]:
    return [plan.largest.peak for plan in plans]


@pytest.fixture(scope="module")
def everything() -> Any:
    return search(config_of(), 8, 160, MACHINE, 2**40)


def test_all_that_fits_is_listed_fastest_first(everything):
    times = [plan.time.total for plan in everything.fitting]
    assert times == pytest.approx(sorted(times), rel=1e-3)
    assert not everything.misses
    kinds = {plan.layout.describe() for plan in everything.fitting}
    assert len(kinds) == len(everything.fitting)
    layouts = [plan.layout for plan in everything.fitting]
    assert {layout.parallel.tensor for layout in layouts} == {1, 2}
    assert {layout.parallel.pipeline for layout in layouts} == {1, 2, 4, 8}
    assert {layout.stage for layout in layouts} == {1, 2, 3}
    assert {layout.config.training.recompute for layout in layouts} == {"none", "selective", "full"}


def test_every_listed_layout_is_a_valid_configuration(everything):
    for plan in everything.fitting:
        values = plan.layout.config.model_dump()
        load_config(None, values).check_layout(8)
        again = make_plan(load_config(None, values), 8, 160, MACHINE)
        assert again.largest == plan.largest


def test_what_is_refused_names_its_rule(everything):
    rules = {message for _, message in everything.refused}
    assert any("model.kv_heads 2 is not divisible by parallel.tensor" in rule for rule in rules)
    assert any("dead-locks in DeepSpeed" in rule for rule in rules)
    assert any("interleaved schedule needs a multiple" in rule for rule in rules)
    refused = sum(count for count, _ in everything.refused)
    assert 0 < refused < everything.tried


def test_a_limit_parts_what_fits_from_what_does_not(everything):
    limit = sorted(peaks(everything.fitting))[len(everything.fitting) // 2]
    found = search(config_of(), 8, 160, MACHINE, limit)
    assert max(peaks(found.fitting)) <= limit < min(peaks(found.misses))
    assert peaks(found.misses) == sorted(peaks(found.misses))
    best = found.fitting[0].time.total
    assert all(plan.time.total < best for plan in found.misses)


def test_where_nothing_fits_the_nearest_misses_are_shown():
    found = search(config_of(), 8, 160, MACHINE, 1000)
    assert (found.fitting, found.fit) == ([], 0)
    assert len(found.misses) > 3


def test_the_vocabulary_comes_from_the_configuration_or_the_tokenizer(tmp_path):
    assert vocabulary_of(load_config(None, {"model": {"vocabulary_size": 96}})) == 96
    assert vocabulary_of(load_config(None, {"parallel": {"tensor": 2}})) == 16
    text = {"task": "text", "path": Path("unread.txt")}
    assert vocabulary_of(load_config(None, {"data": {**text, "vocabulary": 90}})) == 96
    labels = {**text, "task": "multilabel"}
    with pytest.raises(ConfigError, match=r"data\.tokenizer names no file.*model\.vocabulary_size"):
        vocabulary_of(load_config(None, {"data": labels}))
    missing = {**text, "tokenizer": tmp_path / "none.json"}
    with pytest.raises(ConfigError, match=r"none\.json.*set model\.vocabulary_size"):
        vocabulary_of(load_config(None, {"data": missing}))


def test_the_selector_takes_no_more_than_its_budget_and_no_more_than_its_table():
    text = {"task": "text", "path": Path("unread.txt")}
    plan = make_plan(config_of(data=text), 8, 160)
    assert plan.selector_bytes == 8 * 160 * 160 // 8
    assert make_plan(config_of(data=text), 8, 160_000).selector_bytes == 4 * 2**30
    plain = make_plan(config_of(data=text, selection={"strategy": "ntp"}), 8, 160)
    assert plain.selector_bytes == 0
