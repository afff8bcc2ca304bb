"""The configuration: what is accepted, what is refused and how."""

from pathlib import Path

import pytest
import yaml

from pretrain import registry
from pretrain.config import load_config, parse_arguments
from pretrain.config.command_line import options_class
from pretrain.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "configs").rglob("*.yaml"))


def refusal(values: dict, world_size: int = 1) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(None, values).check_layout(world_size)
    return str(caught.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configurations_load_and_round_trip(path):
    config = load_config(path)
    assert load_config(None, yaml.safe_load(config.to_yaml())) == config


def test_there_are_shipped_configurations():
    assert SHIPPED


def test_every_field_is_documented():
    for section in options_class().model_fields.values():
        for name, field in section.annotation.model_fields.items():
            assert field.description, name


def test_overrides_win_over_the_file(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("training: {steps: 7, seed: 3}\n")
    config, _ = parse_arguments(
        ["--config", str(file), "--training.steps", "9", "--selection.fixed", "[1,0]"], "test"
    )
    assert (config.training.steps, config.training.seed) == (9, 3)
    assert config.selection.fixed == (1, 0)


def test_the_launchers_local_rank_is_ignored():
    config, _ = parse_arguments(["--local_rank=1", "--training.steps", "9"], "test")
    assert config.training.steps == 9


def test_the_environment_changes_nothing(monkeypatch):
    monkeypatch.setenv("TRAINING", '{"steps": 5}')
    monkeypatch.setenv("training__steps", "5")
    assert load_config(None).training.steps == 1000


@pytest.mark.parametrize(
    "values,needles",
    [
        ({"training": {"stepz": 3}}, ["training.stepz", "did you mean training.steps"]),
        ({"trainin": {}}, ["trainin", "did you mean training"]),
        ({"training": {"steps": "many"}}, ["training.steps", "'many'"]),
        ({"training": {"steps": 0}}, ["training.steps", "greater than or equal to 1", "0"]),
        ({"optimizer": {"beta1": 1.0}}, ["optimizer.beta1", "less than 1"]),
        ({"model": {"preset": "bert"}}, ["model.preset", "gpt2", "llama"]),
        (
            {"parallel": {"zero_stage": 3, "pipeline": 2}},
            ["parallel.zero_stage 3", "parallel.pipeline 2", "use parallel.zero_stage 0, 1 or 2"],
        ),
        (
            {"parallel": {"virtual_pipeline": 2}},
            ["parallel.virtual_pipeline 2", "parallel.pipeline"],
        ),
        ({"parallel": {"sequence_parallel": True}}, ["parallel.sequence_parallel"]),
        (
            {"model": {"vocabulary_size": 15}, "parallel": {"tensor": 2}},
            ["model.vocabulary_size 15", "parallel.tensor 2"],
        ),
        (
            {"model": {"attention_heads": 4, "kv_heads": 1}, "parallel": {"tensor": 2}},
            ["model.kv_heads 1", "parallel.tensor 2"],
        ),
        ({"model": {"hidden_size": 30}}, ["model.hidden_size 30", "model.attention_heads 4"]),
        (
            {"model": {"layers": 3}, "parallel": {"pipeline": 2}},
            ["model.layers 3", "parallel.pipeline", "2"],
        ),
        (
            {"training": {"global_batch": 10, "micro_batch": 4}},
            ["training.global_batch 10", "training.micro_batch 4"],
        ),
        ({"optimizer": {"name": "adamm"}}, ["optimizer.name adamm", "adamw, lion"]),
        ({"objective": {"name": "l2"}}, ["objective.name l2", "cross_entropy, z_loss"]),
        ({"objective": {"coefficient": -1}}, ["objective.coefficient", "greater than or equal"]),
        ({"selection": {"strategy": "fixed"}}, ["selection.fixed", "[3, 2, 1, 0]"]),
        ({"selection": {"fixed": [0, 0, 1]}}, ["selection.fixed [0, 0, 1]", "permutation"]),
        ({"data": {"digits": 5}}, ["data.digits 5", "data.examples"]),
        (
            {"optimizer": {"schedule": "wsd", "decay_steps": 990, "warmup_steps": 100}},
            ["optimizer.warmup_steps 100", "optimizer.decay_steps 990", "training.steps 1000"],
        ),
    ],
)
def test_what_cannot_work_is_refused_in_few_lines(values, needles):
    message = refusal(values)
    for needle in needles:
        assert needle in message
    assert len(message.splitlines()) <= 3


@pytest.mark.parametrize(
    "values,world_size,needles",
    [
        ({"parallel": {"tensor": 2}}, 3, ["parallel.tensor 2", "multiple of 2", "found 3"]),
        ({"training": {"global_batch": 10}}, 4, ["training.global_batch 10", "4 data-parallel"]),
        (
            {"training": {"global_batch": 12, "micro_batch": 4}},
            2,
            ["training.micro_batch 4", "divisor of 6"],
        ),
        (
            {
                "model": {"layers": 4},
                "parallel": {"pipeline": 2, "virtual_pipeline": 2},
                "training": {"global_batch": 6, "micro_batch": 2},
            },
            2,
            ["interleaved", "multiple of parallel.pipeline 2", "found 3"],
        ),
    ],
)
def test_a_layout_that_does_not_fit_the_processes_is_refused(values, world_size, needles):
    message = refusal(values, world_size)
    for needle in needles:
        assert needle in message


def test_several_problems_are_named_at_once():
    message = refusal({"training": {"steps": 0, "stepz": 1}, "model": {"layers": -1}})
    assert all(name in message for name in ("training.steps", "training.stepz", "model.layers"))


def test_the_vocabulary_is_padded_or_checked():
    assert load_config(None, {"parallel": {"tensor": 2}}).vocabulary_size(15) == 16
    assert load_config(None, {"model": {"vocabulary_size": 20}}).vocabulary_size(15) == 20
    with pytest.raises(ConfigError, match="below the tokenizer's 15"):
        load_config(None, {"model": {"vocabulary_size": 8}}).vocabulary_size(15)


@pytest.mark.parametrize(
    "content,needle",
    [("- a\n- b\n", "expected sections"), ("a: [1\n", "not valid YAML"), (None, "No such file")],
)
def test_a_bad_file_is_named(tmp_path, content, needle):
    file = tmp_path / "bad.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert str(file) in str(caught.value)
    assert needle in str(caught.value)


def test_an_unknown_option_is_named():
    with pytest.raises(ConfigError, match=r"--training\.stepz; did you mean training\.steps"):
        parse_arguments(["--training.stepz", "3"], "test")


def test_objectives_and_optimizers_are_those_of_the_registry(monkeypatch):
    assert load_config(None).objective.name == "cross_entropy"
    assert load_config(None).optimizer.name == "adamw"
    monkeypatch.setitem(registry.OPTIMIZERS, "sgd", "nowhere:SGD")  # only the name is looked at
    monkeypatch.setitem(registry.OBJECTIVES, "focal", "nowhere:Focal")
    config = load_config(None, {"optimizer": {"name": "sgd"}, "objective": {"name": "focal"}})
    assert (config.optimizer.name, config.objective.name) == ("sgd", "focal")
