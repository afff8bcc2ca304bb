import pytest

from tools.report.measures import Measure


@pytest.mark.parametrize(
    "described,better,share",
    [
        ({"better": "higher", "unit": "share", "comparable": True}, True, True),
        ({"better": "lower", "unit": "bits", "comparable": True}, False, False),
        ({"better": None, "unit": "share", "comparable": True}, None, True),
        ({"better": "lower", "unit": "perplexity", "comparable": False}, None, False),
        (None, None, False),
    ],
)
def test_a_run_says_what_a_metric_is(described, better: bool | None, share: bool) -> None:
    found = Measure.of("any_loss_accuracy", described)
    assert (found.higher_is_better, found.is_share) == (better, share)


def test_perplexity_is_logarithmic_and_nothing_else() -> None:
    assert Measure.of("x", {"better": "lower", "unit": "perplexity"}).is_logarithmic
    assert not Measure.of("perplexity", {"better": "lower", "unit": "nats"}).is_logarithmic


def test_shares_are_percent_and_their_differences_points() -> None:
    share = Measure("exact_match", True, "share")
    assert share.value(0.3781) == "37.8 %"
    assert share.difference(0.4) == "+40.0"
    assert share.difference(-0.00001) == "0.0"
    assert share.interval([-0.1, 0.25], "−") == "−10.0 to +25.0"
    assert share.unit == " points"


def test_other_numbers_have_four_figures() -> None:
    bits = Measure("joint_bits_per_token", False, "bits")
    assert [bits.value(x) for x in (5.2, 0.01234, 181.26, 12345.6, 0.0)] == [
        "5.200", "0.0123", "181.3", "12,346", "0.0000",
    ]  # fmt: skip
    assert bits.difference(-0.25) == "-0.2500"
    assert bits.gain(-0.25) == 0.25
    assert bits.better == "lower is better"
    assert bits.unit == ""
