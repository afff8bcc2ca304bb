"""Curves of characters."""

import math

import pytest

from launcher.watch.curve import curve


@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_falling_line_goes_from_the_upper_left_to_the_lower_right(ascii_only):
    lines = curve([(step, 10.0 - step) for step in range(1, 9)], 40, 8, ascii_only)
    assert [len(line) for line in lines] == [40] * 8
    assert lines[0].startswith("9.00 ")
    assert lines[5].startswith("2.00 ")
    assert lines[-1].split() == ["1", "step", "8"]
    columns = [len(line) - len(line[6:].lstrip()) for line in lines[:6]]
    assert columns == sorted(set(columns))
    assert ascii_only == all(line.isascii() for line in lines)


def test_the_marks_are_where_the_values_are():
    lines = curve([(0, 0.0), (1, 1.0), (2, 0.0)], 11, 5, ascii_only=True)
    assert [line[6:] for line in lines[:3]] == ["  *  ", " * * ", "*   *"]


def test_small_ranges_get_labels_that_differ():
    lines = curve([(1, 2.31001), (2, 2.31004)], 40, 6)
    assert lines[0].split()[0] != lines[3].split()[0]


def test_a_level_line_is_drawn_and_what_is_not_finite_is_left_out():
    level = curve([(1, 2.0), (2, math.nan), (3, 2.0)], 30, 7)
    assert len(level) == 7
    assert any(mark in level[2] for mark in "⠁⠂⠄⠤⠒⠉⣀⡀")
    assert curve([(1, 2.0), (2, math.inf)], 30, 7) == []
