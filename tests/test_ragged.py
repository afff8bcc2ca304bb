import pytest

from pretrain.ragged import spread


@pytest.mark.parametrize(
    "there, wanted, expected",
    [
        (10, 4, [0, 2, 5, 7]),
        (10, 1, [0]),
        (3, 3, [0, 1, 2]),
        (3, 7, [0, 1, 2]),
        (3, None, [0, 1, 2]),
        (0, 5, []),
        (0, None, []),
    ],
)
def test_numbers_are_spread_evenly_over_what_is_there(there, wanted, expected):
    assert spread(there, wanted).tolist() == expected
