"""Sides in processes of their own that take turns."""

import time

import pytest

from pretrain.errors import UserError
from tools.bench.interleaved import Orders, Side, contest, missing, resident

MIB = 2**20


class Pipe:
    """The asking end, without a process behind it."""

    def __init__(self, orders: list[int]) -> None:
        self.orders = orders
        self.answers: list = []

    def send(self, answer: object) -> None:
        self.answers.append(answer)

    def recv(self) -> int:
        return self.orders.pop(0)


def test_steps_are_done_as_often_as_they_are_ordered():
    pipe, steps = Pipe([5, 2, 0]), []
    Orders(pipe, warm_up=3).serve(lambda: steps.append(1))
    assert len(steps) == 3 + 5 + 2
    *turns, memory = pipe.answers
    assert len(turns) == 3
    assert memory.peak >= memory.before_model > 0.0
    assert memory.device_peak is None


def test_seconds_are_those_of_one_step_of_the_turn(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "process_time", lambda: now[0] / 4)

    def step() -> None:
        now[0] += 2.0

    pipe = Pipe([4, 0])
    Orders(pipe, warm_up=1).serve(step)
    assert pipe.answers[1] == (2.0, 0.5)


def hungry(orders: Orders) -> None:
    kept = []

    def step() -> None:
        kept.append(b"x" * (40 * MIB))
        del kept[:]

    orders.serve(step)


def broken(orders: Orders) -> None:
    raise ValueError("broken on purpose")


def slow(orders: Orders) -> None:
    orders.serve(lambda: time.sleep(0.05))


@pytest.mark.distributed
def test_sides_take_turns_and_say_what_memory_they_had():
    sides = {"hungry": Side([(hungry, {})]), "slow": Side([(hungry, {}), (slow, {})])}
    with contest(sides) as running:
        assert running.turn("slow", 2) >= 0.05  # the slowest of its processes
        assert running.turn("hungry", 1) > 0.0
        memory = running.end()
    assert {name: len(held) for name, held in memory.items()} == {"hungry": 1, "slow": 2}
    (alone,) = memory["hungry"]
    assert alone.peak - alone.before_model > 30
    assert [len(running.cpu[name]) for name in sides] == [1, 1]


@pytest.mark.distributed
def test_a_side_that_fails_is_named():
    with (
        pytest.raises(UserError, match="a process of bad ended early"),
        contest({"bad": Side([(broken, {})])}),
    ):
        pass


def test_resident_memory_is_below_its_high_water_mark():
    assert 0.0 < resident("VmRSS") <= resident("VmHWM")


def test_packages_that_are_missing_are_named():
    assert missing(["torch", "no_such_package"]) == ["no_such_package"]
