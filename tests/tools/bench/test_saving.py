"""What a save costs: the figures and how they are shown."""

import json

import pytest

from pretrain.testing.processes import call_on
from tools.bench.saving import main, table

SMALL = """
model: {layers: 2, hidden_size: 32, attention_heads: 4, vocabulary_size: 64}
"""


@pytest.mark.distributed
def test_both_ways_are_measured_in_turns(tmp_path):
    config, figures = tmp_path / "config.yaml", tmp_path / "figures.json"
    config.write_text(SMALL)
    arguments = ["--config", str(config), "--rounds", "2", "--length", "16", "--json", str(figures)]
    assert call_on(1, main, arguments) == [0]
    found = json.loads(figures.read_text())
    assert found["parameters"] == 64 * 32 + 16 * 32 + 2 * (12 * 32**2 + 13 * 32) + 2 * 32
    assert found["bytes"] > 12 * found["parameters"]
    assert set(found["ways"]) == {"at once", "beside"}
    for seconds in found["ways"].values():
        assert 0 < seconds["call"] <= seconds["written"]
        assert seconds["call"] <= seconds["stall"]


def test_the_table_says_how_many_times_longer():
    ways = {
        "at once": {"call": 2.0, "written": 2.0, "stall": 2.0},
        "beside": {"call": 0.25, "written": 3.0, "stall": 0.5},
    }
    found = {"parameters": 10, "bytes": 2**20, "step_seconds": 1.0, "ways": ways}
    text = table(found)
    assert text.endswith("stall, at once over beside: 4.0")
    assert "10 parameters, 1 MiB; a step takes 1.00 s" in text


def test_a_configuration_that_is_not_there_is_named(capsys, tmp_path):
    assert main(["--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
