import pytest

from tests.tools.report.examples import make_comparison, make_run, two_strategies
from tools import report


def test_table_has_the_known_figures() -> None:
    lines = report.format_table(report.summarise(two_strategies([0.2, 0.4], [0.5, 0.9]))).split(
        "\n"
    )
    assert lines[3].split() == ["max_mi", "te>h>u>th", "70.0", "±", "28.3", "50.0", "90.0", "+40.0"]
    assert lines[4].split() == ["ntp", "th>h>te>u", "30.0", "±", "14.1", "20.0", "40.0", "-"]


@pytest.mark.parametrize("seeds", [1, 3, 12])
def test_table_fits_a_terminal(seeds: int) -> None:
    names = tuple(f"a rather long name of label {number}" for number in range(12))
    runs = [
        make_run(
            strategy,
            seed,
            order=tuple(range(12)),
            unit_names=names,
            bits=None,
            unit_accuracy=((0.5,) * 12,) * 3,
        )
        for strategy in ("ntp", "max_mi", "a_strategy_with_quite_a_long_name")
        for seed in range(seeds)
    ]
    table = report.format_table(report.summarise(make_comparison(*runs)))
    assert max(len(line) for line in table.split("\n")) <= 80
    assert table.count("50.0") >= 3 * seeds  # no seed is left out
