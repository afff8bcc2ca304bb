import pytest

from tests.tools.report.examples import BITS, make_comparison, make_run, two_strategies
from tools import report
from tools.report.learning import area, value_at


def test_the_last_evaluation_counts_and_std_is_that_of_a_sample() -> None:
    summary = report.summarise(two_strategies([0.2, 0.4], [0.5, 0.9]))
    ntp, max_mi = summary["strategies"]["ntp"], summary["strategies"]["max_mi"]
    assert summary["metric"] == "exact_match"
    assert ntp["mean"] == pytest.approx(0.3)
    assert ntp["std"] == pytest.approx(0.1 * 2**0.5)  # ddof 1; with ddof 0 it were 0.1
    assert ntp["per_seed"] == [0.2, 0.4]
    assert ntp["seeds"] == [0, 1]
    assert ntp["unit_accuracy"] == pytest.approx([0.8, 0.6, 0.4, 0.3])
    assert ntp["trained_tokens"] == 3000
    assert ntp["model_flops"] == 2e12
    assert ntp["train_seconds"] == [90.0, 91.0]
    assert max_mi["order"] == [2, 1, 3, 0]
    assert max_mi["selection_seconds"] == [10.0, 10.0]
    assert max_mi["bits"] == pytest.approx(BITS)


def test_differences_are_paired_over_the_seeds_that_both_have() -> None:
    runs = [make_run("ntp", seed, final) for seed, final in ((0, 0.2), (1, 0.4), (2, 1.0))]
    runs += [make_run("max_mi", seed, final) for seed, final in ((1, 0.5), (0, 0.6), (7, 0.0))]
    paired = report.summarise(make_comparison(*runs))["paired"]
    assert list(paired) == ["max_mi"]
    assert paired["max_mi"]["against"] == "ntp"
    assert paired["max_mi"]["seeds"] == [0, 1]
    assert paired["max_mi"]["per_seed"] == pytest.approx([0.4, 0.1])
    assert paired["max_mi"]["difference"] == pytest.approx(0.25)


def test_without_ntp_the_first_strategy_is_the_baseline() -> None:
    comparison = make_comparison(make_run("reverse", final=0.5), make_run("max_mi", final=0.25))
    summary = report.summarise(comparison)
    assert summary["baseline"] == "reverse"
    assert summary["paired"]["max_mi"]["difference"] == pytest.approx(-0.25)


def test_one_seed_has_no_std_and_disjoint_seeds_no_difference() -> None:
    summary = report.summarise(make_comparison(make_run("ntp", 0), make_run("max_mi", 1)))
    assert summary["strategies"]["ntp"]["std"] is None
    assert summary["paired"]["max_mi"]["difference"] is None
    assert summary["paired"]["max_mi"]["per_seed"] == []
    assert "n/a" in report.format_table(summary)


def test_order_is_none_where_it_differs_by_seed() -> None:
    runs = make_run("random", 0, order=(1, 0, 2, 3)), make_run("random", 1, order=(3, 0, 2, 1))
    entry = report.summarise(make_comparison(*runs))["strategies"]["random"]
    assert entry["order"] is None
    assert entry["orders"] == [[1, 0, 2, 3], [3, 0, 2, 1]]


def test_area_and_third_of_a_curve_are_by_tokens() -> None:
    # Trapezoids: 100 tokens at .1 and 200 at .4 on average.
    assert area((100, 200, 400), (0.0, 0.2, 0.6)) == pytest.approx((10 + 80) / 300)
    assert area((500,), (0.7,)) == 0.7
    assert value_at((100, 200, 300), (0.0, 0.2, 0.6)) == pytest.approx(0.0)
    assert value_at((100, 200, 450), (0.0, 0.2, 0.6)) == pytest.approx(0.1)
    assert value_at((100, 200, 450), (0.0, 0.2, 0.6), share=1.0) == 0.6
    assert value_at((200, 450), (0.2, 0.6)) is None


def test_a_summary_has_area_and_third_of_every_seed() -> None:
    runs = [make_run("ntp", seed, final) for seed, final in ((0, 0.2), (1, 0.4))]
    ntp = report.summarise(make_comparison(*runs))["strategies"]["ntp"]
    tokens, curves = runs[0].tokens, [run.metrics["exact_match"] for run in runs]
    assert ntp["area"]["per_seed"] == [area(tokens, curve) for curve in curves]
    assert ntp["third"]["per_seed"] == [value_at(tokens, curve) for curve in curves]
    late = [make_run("ntp", tokens=(3000,), metrics={"exact_match": (0.5,)},
                     unit_accuracy=((0.5,) * 4,))]  # fmt: skip
    ntp = report.summarise(make_comparison(*late))["strategies"]["ntp"]
    assert ntp["third"] is None
    assert ntp["area"]["per_seed"] == [0.5]
