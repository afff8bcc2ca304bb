import pytest

from tools.report.measures import Measure, measure


@pytest.mark.parametrize(
    "name,better,share",
    [
        ("exact_match", True, True),
        ("micro_f1_at_true_length_3plus", True, True),
        ("rougeL", True, True),
        ("label_coverage", None, True),
        ("distinct_2", None, True),
        ("predicted_length", None, False),
        ("original_tokens_per_position", None, False),
        ("joint_bits_per_token", False, False),
        ("plain_perplexity", False, False),
        ("conditional_perplexity", None, False),
        ("plan_bits", None, False),
    ],
)
def test_names_say_what_a_metric_is(name: str, better: bool | None, share: bool) -> None:
    found = measure(name)
    assert (found.higher_is_better, found.is_share) == (better, share)


def test_shares_are_percent_and_their_differences_points() -> None:
    share = Measure("exact_match", True)
    assert share.value(0.3781) == "37.8 %"
    assert share.difference(0.4) == "+40.0"
    assert share.difference(-0.00001) == "0.0"
    assert share.interval([-0.1, 0.25], "−") == "−10.0 to +25.0"
    assert share.unit == " points"


def test_other_numbers_have_four_figures() -> None:
    bits = Measure("joint_bits_per_token", False)
    assert [bits.value(x) for x in (5.2, 0.01234, 181.26, 12345.6, 0.0)] == [
        "5.200", "0.0123", "181.3", "12,346", "0.0000",
    ]  # fmt: skip
    assert bits.difference(-0.25) == "-0.2500"
    assert bits.gain(-0.25) == 0.25
    assert bits.better == "lower is better"
    assert bits.unit == ""
