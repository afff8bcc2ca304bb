"""The computed shuffle: every place once, and no order left."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pretrain.data.shuffle import permuted


@given(st.integers(1, 3000), st.integers(0, 5))
def test_every_number_has_a_place_of_its_own(size, seed):
    assert sorted(permuted(np.arange(size), size, seed)) == list(range(size))


def test_a_place_does_not_depend_on_what_else_is_asked_for():
    everything = permuted(np.arange(1000), 1000, 7, "web", 2)
    some = np.array([999, 3, 500])
    assert permuted(some, 1000, 7, "web", 2).tolist() == everything[some].tolist()


def test_keys_give_different_shuffles_that_look_random():
    size = 4096
    first, second = (permuted(np.arange(size), size, 0, "web", epoch) for epoch in range(2))
    assert (first == second).mean() < 0.01
    for shuffled in (first, second):
        assert abs(np.corrcoef(np.arange(size), shuffled)[0, 1]) < 0.05
        assert (np.diff(shuffled) == 1).mean() < 0.01
        # Each sixteenth is spread evenly over the sixteenths of the places.
        cells = np.histogram2d(np.arange(size), shuffled, bins=16)[0]
        assert ((cells - 16) ** 2 / 16).sum() < 350  # 225 degrees of freedom, six sigma


def test_ranges_beyond_what_memory_holds():
    size = 10**12
    places = permuted(np.arange(10_000), size, 0)
    assert len(set(places.tolist())) == 10_000
    assert 0.45 * size < places.mean() < 0.55 * size
