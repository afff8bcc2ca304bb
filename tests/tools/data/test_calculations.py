import json
from datetime import date, timedelta
from pathlib import Path

import pytest

from tools.data.calculations import base_conversion, dates, main, running_totals


def made(tmp_path: Path, *options: str) -> list[list[dict]]:
    paths = [tmp_path / "train.jsonl", tmp_path / "test.jsonl"]
    assert main(["--out", str(paths[0]), "--test", str(paths[1]), *options, "--json"]) == 0
    return [[json.loads(line) for line in path.read_text().splitlines()] for path in paths]


def test_records_by_number():
    assert running_totals(314159) == {
        "source": {"digits": "314159"},
        "target": {"totals": "348943"},
    }
    assert running_totals(7)["source"] == {"digits": "000007"}
    assert base_conversion(4821) == {
        "source": {"decimal": "4821"},
        "target": {"hexadecimal": "12d5"},
    }
    assert base_conversion(9999)["target"] == {"hexadecimal": "270f"}
    leap_day = (date(2024, 2, 29) - date(2000, 1, 1)).days
    assert dates(leap_day * 1000 + 366) == {
        "source": {"date": "240229", "days": "366"},
        "target": {"after": "250301"},
    }


def test_dates_stay_in_their_century(tmp_path):
    train, test = made(tmp_path, "--task", "dates", "--examples", "300", "--test-examples", "9")
    for record in (*train, *test):
        text = record["source"]["date"]
        day = date(2000 + int(text[:2]), int(text[2:4]), int(text[4:]))
        after = day + timedelta(days=int(record["source"]["days"]))
        assert after.year < 2100
        assert record["target"]["after"] == after.strftime("%y%m%d")
    assert dates((36_525 - 1_000) * 1000 + 999)["target"] == {"after": "991231"}


@pytest.mark.parametrize("task", ["base_conversion", "running_totals"])
def test_sides_are_disjoint_and_a_seed_repeats_them(task, tmp_path):
    small = ["--task", task, "--examples", "1900", "--test-examples", "100"]
    train, test = made(tmp_path, *small)
    assert (len(train), len(test)) == (1900, 100)
    sources = [json.dumps(record["source"]) for record in (*train, *test)]
    assert len(set(sources)) == 2000
    assert made(tmp_path, *small) == [train, test]
    assert made(tmp_path, *small, "--seed", "1") != [train, test]


def test_more_than_there_are_is_refused_and_nothing_written(tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    assert main(["--task", "base_conversion", "--out", str(out), "--examples", "10001"]) == 2
    assert "has 10,000 records, found 10,001 asked for" in capsys.readouterr().err
    assert not out.exists()
