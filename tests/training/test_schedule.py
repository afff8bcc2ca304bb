from itertools import pairwise

import pytest

from pretrain.config import load_config
from pretrain.training.schedule import learning_rate, told_schedule, warm_up_warning


def configured(steps=101, **optimizer):
    given = {"learning_rate": 0.1, "minimum_fraction": 0.1, **optimizer}
    return load_config(None, {"optimizer": given, "training": {"steps": steps}})


def rates(steps=101, **optimizer):
    config = configured(steps, **optimizer)
    return [learning_rate(step, config) for step in range(steps)]


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
    values = rates(schedule="wsd", warmup_steps=0, decay_steps=20)
    assert values[:81] == pytest.approx([0.1] * 81)
    assert values[90] == pytest.approx(0.055)
    assert values[100] == pytest.approx(0.01)
    assert all(later < before for before, later in pairwise(values[80:]))


@pytest.mark.parametrize(
    "steps,decay,expected",
    [
        (8, 1, [1.0] * 7 + [0.1]),
        (8, 4, [1.0] * 4 + [0.775, 0.55, 0.325, 0.1]),
        (5, None, [1.0] * 4 + [0.1]),  # a tenth of the steps, and one at least
        (19, None, [1.0] * 18 + [0.1]),
        (20, None, [1.0] * 18 + [0.55, 0.1]),
        (4, 4, [0.775, 0.55, 0.325, 0.1]),
    ],
)
def test_wsd_falls_in_each_of_its_decay_steps_and_ends_at_the_minimum(steps, decay, expected):
    values = rates(steps, schedule="wsd", warmup_steps=0, decay_steps=decay)
    assert values == pytest.approx([0.1 * share for share in expected])


def test_constant_stays():
    assert rates(schedule="constant", warmup_steps=0) == pytest.approx([0.1] * 101)


def test_a_warm_up_longer_than_the_run_is_taken_and_said():
    assert max(rates(warmup_steps=500)) < 0.1
    assert "only rises, to 0.202 of" in warm_up_warning(configured(warmup_steps=500))


@pytest.mark.parametrize(
    "schedule,steps,warmup,said",
    [
        ("cosine", 4, 100, "the warm-up does not end within training.steps 4"),
        ("constant", 4, 4, "the warm-up does not end within training.steps 4"),
        ("cosine", 4, 3, "leaves one of training.steps 4 for the cosine"),
        ("constant", 4, 3, ""),
        ("cosine", 4, 2, ""),
        ("wsd", 4, 3, ""),
        ("cosine", 1, 0, ""),
    ],
)
def test_a_warm_up_that_leaves_the_schedule_nothing_is_warned_of(schedule, steps, warmup, said):
    warning = warm_up_warning(configured(steps, schedule=schedule, warmup_steps=warmup))
    assert (said in warning) if said else warning == ""


def test_what_more_steps_do_to_a_schedule_is_said():
    def told(schedule, planned, steps, done, **more):
        config = configured(steps, schedule=schedule, warmup_steps=0, **more)
        return told_schedule(config, {"training": {"steps": planned}}, done)

    assert told("cosine", 10, 14, 10) == (
        "training.steps was 10 and is 14: cosine had ended at 0.01 in step 10; laid out over 14 "
        "steps it is 0.0213 in step 11 and 0.01 in the last"
    )
    assert "cosine had come to" in told("cosine", 20, 14, 10)
    assert "wsd had ended at 0.01 in step 10; " in told("wsd", 10, 20, 10)
    assert told("constant", 10, 14, 10).endswith("the learning rate stays at 0.1")
    assert told("cosine", 14, 14, 10) == ""
    assert told("cosine", 10, 14, 0) == ""
    assert told_schedule(configured(14), {}, 10) == ""
