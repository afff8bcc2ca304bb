"""What holds for all tests."""

import pytest
from hypothesis import settings

from tests.gang import Gangs

# How long an example takes says something about the machine, nothing about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="module")
def gangs():
    """Processes that several tests of a module share."""
    started = Gangs()
    yield started
    started.close()
