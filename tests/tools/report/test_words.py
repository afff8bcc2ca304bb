from tests.tools.report.examples import UNITS
from tools import report


def test_abbreviations_are_unique_and_numbers_where_names_are_too_alike() -> None:
    assert report.abbreviate(UNITS) == ["th", "h", "te", "u"]
    assert report.abbreviate(("label 1", "label 2")) == ["1", "2"]
    assert report.abbreviate(("a", "ab")) == ["1", "2"]
