import json

import pytest

from pretrain.config import parse_arguments
from tools.inspect_selection import main


def run(capsys, *arguments: str) -> dict:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_json_of_every_pair(capsys):
    found = run(capsys, "--all-pairs")
    assert found["estimator"] == "joint"
    assert found["order"] == [2, 1, 3, 0]
    assert found["bits"] == pytest.approx([2.71, 3.30, 3.31, 3.03], abs=0.006)
    assert found["correction"] == "none"
    assert found["examples"] == 10_000


def test_the_named_estimator_wins_over_the_configuration(capsys):
    found = run(capsys, "--estimator", "pairwise", "--selection.strategy", "ntp")
    assert found["estimator"] == "pairwise"
    assert found["correction"] == "miller_madow"
    assert found["examples"] < 10_000  # the training split


def test_the_table_is_for_people(capsys):
    assert main(["--all-pairs"]) == 0
    text = capsys.readouterr().out
    assert "order of max_mi: tens, hundreds, units, thousands" in text


def test_an_error_is_short(capsys):
    assert main(["--data.digits", "0"]) == 2
    assert "data.digits" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--estimator", "any_order"], ["--estimator", "k_local", "--data.digits", "1"]]
)
def test_an_inspection_finds_what_training_would(options, capsys):
    """With the budget of the run, and by whether its examples are a whole domain."""
    small = ["--model.sequence_length", "16", "--training.steps", "300", *options]
    assert main([*small, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    changed = [word.replace("--estimator", "--selection.estimator") for word in small]
    config, _ = parse_arguments(changed, "test")
    trained = config.data.build(config).fitter.fit(None)[0]
    assert found["flops"] == trained.flops
    assert found["correction"] == trained.correction
    assert found["order"] == list(trained.order)
    assert found["bits"] == pytest.approx(trained.bits, rel=1e-12)
