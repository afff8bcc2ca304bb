"""What holds for all tests."""

from types import SimpleNamespace

import pytest
from hypothesis import settings

from tests.gang import call_on

# How long an example takes says something about the machine, nothing about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="module")
def gangs():
    """`gangs.call(ranks, function, *arguments)`: what a function returns on each of some ranks."""
    return SimpleNamespace(call=call_on)
