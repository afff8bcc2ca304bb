import json
from pathlib import Path

import numpy as np
import pytest

from pretrain.config import Config
from tools.comparison.judgement import Trained, tau
from tools.judge_orders import main

SCORES = {
    # order: area and last score of two seeds
    (0, 1): ((0.2, 0.4), (0.5, 0.75)),
    (1, 0): ((0.6, 0.8), (0.75, 0.5)),
}


def comparison(folder: Path, **changes) -> Path:
    """One-digit multiplication, both of its orders."""
    config = Config.model_validate(
        {"data": {"digits": 1}, "model": {"sequence_length": 8}, "training": {"steps": 600}}
    ).model_dump(mode="json")
    summaries = {
        f"fixed {'-'.join(map(str, order))}": {
            "per_seed": list(end),
            "seeds": [0, 1],
            "third": {"per_seed": [0.1, 0.1]},
            "area": {"per_seed": list(area)},
        }
        for order, (area, end) in SCORES.items()
    }
    found = {
        "title": "products",
        "higher_is_better": True,
        "strategies": summaries,
        "runs": [{"strategy": f"fixed {a}-{b}", "order": [a, b]} for a, b in SCORES],
        "config_yaml": json.dumps(config),
        "commit": "abc",
        "command": "made up",
        **changes,
    }
    folder.mkdir()
    (folder / "comparison.json").write_text(json.dumps(found))
    return folder


def test_regret_is_what_the_best_order_has_more(tmp_path):
    trained = Trained.read(comparison(tmp_path / "products"))
    assert trained.best("area") == (1, 0)
    assert trained.regret((0, 1), "area") == pytest.approx(0.4)
    assert trained.regret((1, 0), "area") == 0.0
    assert trained.best("third") == trained.best("end") == (0, 1)  # a tie: the first as a word
    assert trained.regret((0, 1, 2), "area") is None


def test_tau_is_one_where_lower_costs_come_to_higher_scores():
    places = {order: place for place, order in enumerate([(0, 1, 2), (1, 0, 2), (2, 1, 0)])}
    scores = {order: {"area": (float(place),) * 2} for order, place in places.items()}
    trained = Trained("made up", (0, 1), scores, "", {})
    found = trained.foretold(lambda order: -places[order], "area")
    assert found is not None
    mean, low, high = found
    assert (mean, high) == (1.0, 1.0)
    assert low <= 1.0
    assert trained.foretold(places.__getitem__, "area")[0] == -1.0
    assert trained.agreement("area") == 1.0
    assert tau(np.array([1, 2, 3, 4]), np.array([1, 2, 4, 3])) == pytest.approx(2 / 3)
    assert tau(np.array([1, 1, 1]), np.array([1, 2, 3])) == 0.0


def test_criteria_are_judged_on_the_examples_of_the_comparison(tmp_path, capsys):
    folder = comparison(tmp_path / "products")
    out, plot = tmp_path / "judged.json", tmp_path / "judged.png"
    criteria = "ntp,reverse,max_mi:estimator=k_local:k=2"
    assert main([str(folder), "--criteria", criteria, "--out", str(out), "--plot", str(plot)]) == 0
    task = json.loads(out.read_text())[0]
    assert task["orders"]["1-0"]["area"] == [0.6, 0.8]
    natural, reverse, counted = task["criteria"]
    assert natural["order"] == [0, 1]
    assert natural["regret"]["area"] == pytest.approx(0.4)
    assert reverse["regret"] == {"area": 0.0, "third": 0.0, "end": 0.0}
    assert counted["tau"]["area"] is None  # two orders are too few
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "mean regret over tasks" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"strategies": {}}, "expected a comparison of tools.compare_strategies"),
        ({"higher_is_better": False}, "a score of which more is better"),
        ({"runs": [{"strategy": "fixed 0-1", "order": None}]}, "one order of units"),
    ],
)
def test_what_is_no_comparison_of_orders_is_refused(tmp_path, capsys, changes, said):
    folder = comparison(tmp_path / "products", **changes)
    assert main([str(folder)]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert said in error
    assert "comparison.json" in error


def test_seeds_that_are_missing_are_named(tmp_path, capsys):
    folder = comparison(tmp_path / "products")
    path = folder / "comparison.json"
    found = json.loads(path.read_text())
    found["strategies"]["fixed 0-1"]["seeds"] = [0]
    path.write_text(json.dumps(found))
    assert main([str(folder)]) == 2
    assert "orders have different seeds, found [(0,), (0, 1)]" in capsys.readouterr().err
