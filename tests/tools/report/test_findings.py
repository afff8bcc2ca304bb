import pytest

from tests.tools.report.examples import make_comparison, make_run, two_strategies
from tools import report


@pytest.mark.parametrize(
    "ntp,max_mi,words",
    [
        ([0.3, 0.3, 0.3], [0.5, 0.6, 0.7], "30.0 points ahead of ntp, and ahead on every one of 3"),
        ([0.5, 0.5], [0.4, 0.3], "15.0 points behind ntp, and behind on both seeds"),
        ([0.5, 0.5], [0.5, 0.5], "end level: 50.0 % against 50.0 %"),
        ([0.5, 0.5, 0.5], [0.7, 0.4, 0.7], "No clear winner: max_mi ends 10.0 points ahead of"),
        ([0.5, 0.5, 0.5], [0.7, 0.4, 0.7], "ahead on only 2 of 3 seeds"),
        ([0.3], [0.5], "20.0 points ahead of ntp: 50.0 % against 30.0 %"),
        ([0.3], [0.5], "on a single seed"),
        ([0.3], [], "ntp reaches 30.0 % exact match"),
    ],
)
def test_headline_says_what_came_out(ntp: list[float], max_mi: list[float], words: str) -> None:
    assert words in report.headline(report.summarise(two_strategies(ntp, max_mi)))


def test_one_seed_and_unequal_budgets_are_caveats() -> None:
    comparison = make_comparison(make_run("ntp"), make_run("max_mi", model_flops=3e12))
    found = " ".join(report.caveats(report.summarise(comparison)))
    assert "One seed says little" in found
    assert "Budgets are not equal: max_mi was trained on 3 T model FLOPs, ntp on 2 T" in found
    assert "entropy of each digit" in found
    equal = " ".join(report.caveats(report.summarise(two_strategies([0.1] * 3, [0.2] * 3))))
    assert "not equal" not in equal
    assert "Means are over 3 seeds" in equal
