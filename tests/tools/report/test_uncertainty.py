import math

import pytest
from scipy import stats

from tools.report.uncertainty import interval, spread, t_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 10, 11, 12, 19, 30, 100, 1000])
def test_quantiles_are_those_of_students_t(freedom: int) -> None:
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=1e-4)


def test_no_degree_of_freedom_is_refused() -> None:
    with pytest.raises(ValueError, match="0 degrees of freedom; at least 1"):
        t_quantile(0)


def test_interval_against_a_known_value() -> None:
    # Mean 2, standard deviation 1, three values: 2 -+ 4.3027 / sqrt(3).
    assert interval([1.0, 2.0, 3.0]) == pytest.approx([-0.48414, 4.48414], abs=1e-4)
    values = [0.3, 0.1, 0.45, 0.2]
    expected = stats.t.interval(0.95, 3, loc=0.2625, scale=stats.sem(values))
    assert interval(values) == pytest.approx(list(expected), abs=1e-5)
    assert interval([0.5, 0.5]) == [0.5, 0.5]


def test_one_value_has_no_spread_and_no_interval() -> None:
    assert interval([1.0]) is None
    assert interval([]) is None
    assert spread([1.0]) is None
    assert spread([1.0, 2.0]) == pytest.approx(math.sqrt(0.5))
