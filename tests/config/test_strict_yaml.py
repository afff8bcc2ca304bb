"""YAML as people mean it."""

import math

import pytest
import yaml

from pretrain.config import load_config
from pretrain.config.strict_yaml import load_yaml
from pretrain.errors import ConfigError


@pytest.mark.parametrize(
    "text,value",
    [
        ("0100", 100), ("-7", -7), ("0x1F", 31), ("0o17", 15), ("1e-3", 1e-3), ("1.", 1.0),
        (".5", 0.5), ("-1.5E+3", -1500.0), (".inf", math.inf), ("true", True), ("False", False),
        ("10:00", "10:00"), ("yes", "yes"), ("no", "no"), ("on", "on"), ("0b11", "0b11"),
        ("1_000", "1_000"), ("2020-01-02", "2020-01-02"), ("~", None), ("null", None),
        ("'5'", "5"), ("1.2.3", "1.2.3"), ("[1, 08]", [1, 8]),
    ],
)  # fmt: skip
def test_scalars_are_those_of_version_1_2(text, value):
    assert load_yaml(text) == value
    assert type(load_yaml(text)) is type(value)


def test_what_is_written_is_read_back():
    values = {"a": [1, 2.5, True, None, "10:00", "yes", "0100"], "b": {"c": 1e-8}}
    assert load_yaml(yaml.safe_dump(values)) == values


def test_a_key_that_is_there_twice_is_refused_with_both_lines(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("optimizer: {learning_rate: 3e-4}\ntraining: {steps: 5}\n\noptimizer: {}\n")
    with pytest.raises(ConfigError, match="optimizer is there twice, in lines 1 and 4"):
        load_config(file)
    file.write_text("training:\n  steps: 5\n  seed: 1\n  steps: 6\n")
    with pytest.raises(ConfigError, match="steps is there twice, in lines 2 and 4"):
        load_config(file)


@pytest.mark.parametrize("value", ["10:00", "yes", "true", "0b11"])
def test_what_is_no_whole_number_is_refused_for_one(tmp_path, value):
    file = tmp_path / "c.yaml"
    file.write_text(f"training: {{steps: {value}}}\n")
    with pytest.raises(ConfigError, match=r"training\.steps: "):
        load_config(file)


def test_a_number_with_leading_zeros_is_decimal(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("training: {steps: 0100}\nrun: {progress: yes}\n")
    config = load_config(file)
    assert (config.training.steps, config.run.progress) == (100, True)
