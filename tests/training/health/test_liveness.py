"""Who is gone, stuck or slow, by what ranks say."""

from dataclasses import replace

import pytest

from pretrain.training.health.liveness import DONE, Beat, Limits, Watch, from_json

LIMITS = Limits(silence=10, step=60, start=300)


def beat(rank: int = 0, **values) -> Beat:
    kept = {"number": 1, "stage": 0, "step": 5, "operation": "backward", "ticks": 9, **values}
    return Beat(rank=rank, host=f"n{rank}", pid=100 + rank, **kept)


def watch_of(*beats: Beat, first_step: int = 0) -> Watch:
    watch = Watch(LIMITS, first_step)
    watch.observe(beats, 0.0)
    return watch


def test_a_beat_survives_the_store():
    sent = beat(3, forward_seconds=0.25, failed="RuntimeError: no")
    assert from_json(sent.to_json()) == sent


def test_ranks_that_go_on_are_no_problem():
    watch = watch_of(beat(0), beat(1))
    for second in range(1, 500):
        watch.observe([beat(r, number=second, ticks=9 + second) for r in (0, 1)], float(second))
        assert watch.problem(second + 9.0) is None


def test_a_rank_that_says_nothing_is_named():
    watch = watch_of(beat(0), beat(1))
    watch.observe([beat(0, number=2, ticks=10), beat(1)], 11.0)
    problem = watch.problem(11.0)
    assert problem.ranks == (1,)
    assert problem.message.startswith(
        "rank 1 on n1 (pid 101) in step 6, backward said nothing for 10 s (run.silence_seconds)"
    )


def test_a_rank_that_is_done_may_be_silent():
    watch = watch_of(beat(0, operation=DONE))
    assert watch.problem(10_000.0) is None


@pytest.mark.parametrize(
    "values,limit",
    [
        ({}, 60),
        ({"operation": "evaluation"}, 300),
        ({"operation": "saving"}, 300),
        ({"operation": "fit"}, 300),
        ({"step": 0}, 300),
    ],
)
def test_standing_still_is_allowed_for_longer_where_it_may_take_longer(values, limit):
    watch = watch_of(beat(**values))
    watch.observe([beat(number=2, **values)], limit - 1.0)
    assert watch.problem(limit - 0.5) is None
    watch.observe([beat(number=3, **values)], limit + 1.0)
    assert watch.problem(limit + 1.0).ranks == (0,)


def test_the_first_step_after_going_on_counts_as_the_first():
    watch = watch_of(beat(step=1000), first_step=1000)
    watch.observe([beat(step=1000, number=2)], 100.0)
    assert watch.problem(101.0) is None


def test_where_all_stand_still_those_behind_are_named():
    ranks = [
        beat(r, ticks=9 - (r == 2), operation="data" if r == 2 else "backward") for r in (0, 1, 2)
    ]
    watch = watch_of(*ranks)
    watch.observe([replace(each, number=2) for each in ranks], 61.0)
    problem = watch.problem(61.0)
    assert problem.ranks == (2,)
    assert problem.message == (
        "rank 2 on n2 (pid 102) in step 6, data did not get on for 60 s (run.timeout_seconds); "
        "2 other ranks are further and wait"
    )


def test_many_ranks_are_not_all_named():
    watch = watch_of(*(beat(rank) for rank in range(20)))
    problem = watch.problem(11.0)
    assert "and 12 more said nothing" in problem.message
    assert len(problem.ranks) == 20


def test_a_slow_rank_is_told_from_others_of_its_stage():
    fast = [beat(r, forward_seconds=0.1) for r in range(3)]
    slow = beat(3, forward_seconds=0.2)
    heavier_stage = [beat(r, stage=1, forward_seconds=0.3) for r in (4, 5)]
    watch = watch_of(*fast, slow, *heavier_stage)
    (found,) = watch.stragglers(1.5, 0.0, 0.0)
    assert found.beat.rank == 3
    assert str(found) == ("rank 3 on n3 is slow: a forward pass takes 0.2 s, 2.0 times the others'")
    assert watch.stragglers(2.5, 0.0, 0.0) == []
    assert watch_of(slow).stragglers(1.5, 0.0, 0.0) == []


def test_a_rank_is_told_of_once_it_is_slow_for_long():
    def at(second: float, seconds: float) -> list[int]:
        watch.observe([beat(0, forward_seconds=0.1), beat(1, forward_seconds=seconds)], second)
        return [slow.beat.rank for slow in watch.stragglers(1.5, second, 30.0)]

    watch = watch_of(beat(0), beat(1))
    assert at(0.0, 0.3) == []
    assert at(20.0, 0.3) == []
    assert at(25.0, 0.1) == []  # a moment only
    assert at(30.0, 0.3) == []
    assert at(59.0, 0.3) == []
    assert at(60.0, 0.3) == [1]
