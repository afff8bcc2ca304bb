import math
from dataclasses import replace
from typing import Any

import pytest

from tests.tools.report.examples import make_comparison, make_run
from tools import report


def test_no_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="no runs"):
        report.summarise(make_comparison())


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"tokens": (1000, 2000, 4000)}, "same points"),
        ({"tokens": (1000, 3000, 2000)}, "increase"),
        ({"metrics": {"exact_match": (0.0, 0.5, 50.0)}}, "exact_match 50.0, outside 0..1"),
        ({"metrics": {"exact_match": (0.0, 0.5, math.nan)}}, "exact_match nan, outside 0..1"),
        ({"metrics": {"exact_match": (0.0, 0.5)}}, "one of each per evaluation"),
        ({"tokens": (), "metrics": {}, "unit_accuracy": ()}, "no evaluation"),
        ({"unit_accuracy": ((0.5,) * 4, (0.5,) * 4, (-0.1,) * 4)}, "unit_accuracy -0.1"),
        ({"unit_accuracy": ((0.5,) * 3,) * 3}, "lack one of 4 units"),
        ({"order": (0, 1, 2, 2)}, "no permutation"),
        ({"bits": (1.0, 2.0)}, "one finite number per unit"),
        ({"samples": ({"source": "1"},)}, "without correct, prediction, raw, target"),
        ({"train_seconds": -1.0}, "train_seconds -1.0"),
        ({"model_flops": float("inf")}, "model_flops inf"),
        ({"unit_names": ("a", "b", "c", "d")}, "runs of one task"),
        ({"seed": 0}, "occurs twice"),
        ({"metrics": {"f1": (0.1,) * 3}}, "no exact_match, which is the one that counts"),
        (
            {"metrics": {"exact_match": (0.1,) * 3, "bits": (1.0, math.inf, 1.0)}},
            "bits .*finite numbers",
        ),
        (
            {"metrics": {"exact_match": (0.1,) * 3, "bits": (9.0, 8.0, 7.0)}},
            "score all seeds of a strategy by the same",
        ),
        ({"selection_flops": -1.0}, "selection_flops -1.0"),
    ],
)
def test_errors_name_the_run(changes: dict[str, Any], words: str) -> None:
    seed = changes.get("seed", 3)
    bad = replace(make_run("max_mi", 3), **changes)
    with pytest.raises(ValueError, match=rf"run 'max_mi', seed {seed} .*{words}"):
        report.summarise(make_comparison(make_run("max_mi", 0), bad))
