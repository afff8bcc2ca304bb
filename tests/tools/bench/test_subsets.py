import json

import pytest

from tools.bench.subsets import BASELINES, main


@pytest.mark.parametrize("k", ["1", "3", "9"])
def test_routes_agree_and_are_timed_side_by_side(k, capsys):
    small = [
        "--examples", "500", "--source", "2", "--target", "2", "--values", "3", "--rounds", "1",
    ]  # fmt: skip
    assert main(["--json", "--k", k, *small]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["seconds"]) == {"ours", "estimator", *BASELINES}
    assert result["sets"] >= {"1": 4 + 5, "3": 15, "9": 15}[k]
    assert set(result["ratio"]) == set(BASELINES)
    assert main(["--k", k, *small]) == 0
    assert "times ours" in capsys.readouterr().out


def test_sizes_are_checked(capsys):
    assert main(["--k", "0"]) == 2
    assert "--k is 0; use 1 or more" in capsys.readouterr().err
