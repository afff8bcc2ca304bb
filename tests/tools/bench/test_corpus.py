"""The bench of readers runs, and reads what it wrote."""

import json

import pytest

from tools.bench.corpus import main


@pytest.mark.parametrize("strategy", ["ntp", "random"])
def test_it_reports_what_it_measured(strategy, capsys):
    sizes = ["--documents", "500", "--length", "64", "--batch", "4", "--steps", "3"]
    assert main([*sizes, "--strategy", strategy, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["documents"] == 490
    assert report["sequences"] > 300
    assert 0 < report["open_seconds"] < 60
    assert report["tokens_per_second"] > 0
