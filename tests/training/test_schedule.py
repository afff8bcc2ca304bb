import pytest

from pretrain.config import load_config
from pretrain.training.schedule import learning_rate


def rates(**optimizer):
    config = load_config(
        None,
        {
            "optimizer": {"learning_rate": 0.1, "minimum_fraction": 0.1, **optimizer},
            "training": {"steps": 101},
        },
    )
    return [learning_rate(step, config) for step in range(101)]


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
def test_warm_up_is_linear_and_ends_below_the_peak(schedule):
    values = rates(schedule=schedule, warmup_steps=9)
    assert values[:10] == pytest.approx([0.01 * (i + 1) for i in range(10)])
    assert max(values) == pytest.approx(0.1)


def test_cosine_goes_from_peak_to_minimum():
    values = rates(schedule="cosine", warmup_steps=0)
    assert values[0] == pytest.approx(0.1)
    assert values[50] == pytest.approx(0.055)
    assert values[100] == pytest.approx(0.01)
    assert values == sorted(values, reverse=True)


def test_wsd_stays_and_then_falls():
    values = rates(schedule="wsd", warmup_steps=0, decay_steps=21)
    assert values[:81] == pytest.approx([0.1] * 81)
    assert values[90] == pytest.approx(0.055)
    assert values[100] == pytest.approx(0.01)


def test_constant_stays():
    assert rates(schedule="constant", warmup_steps=0) == pytest.approx([0.1] * 101)


def test_a_warm_up_longer_than_the_run_is_fine():
    assert max(rates(warmup_steps=500)) < 0.1
