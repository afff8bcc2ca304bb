"""Problems of reasoning-gym: sides lie apart, and what both have is dropped and counted."""

import json
import sys
import types

import pytest

from tools.data.reasoning_gym import main


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def made(tmp_path, capsys, *options):
    paths = [tmp_path / name for name in ("train.jsonl", "test.jsonl")]
    given = ["--out", str(paths[0]), "--test", str(paths[1]), "--json", *options]
    assert main(given) == 0
    return json.loads(capsys.readouterr().out), *map(read, paths)


@pytest.fixture
def package(monkeypatch):
    """A stand-in whose item i is of seed + i, modulo a setting; asked for is what was asked."""
    asked = []

    def create_dataset(task, seed, size, modulo=10**9):
        asked.append((seed, size))
        if task == "unknown":
            raise ValueError("Dataset 'unknown' not registered")
        numbers = [(seed + i) % modulo for i in range(size)]
        return [
            {
                "question": f"{n} + 1?",
                "answer": None if task == "none" else f"{n + 1:03d}" * (n != 50),
            }
            for n in numbers
        ]

    module = types.SimpleNamespace(create_dataset=create_dataset)
    monkeypatch.setitem(sys.modules, "reasoning_gym", module)
    return asked


def test_sides_are_a_size_apart(tmp_path, capsys, package):
    report, train, test = made(tmp_path, capsys, "--task", "t", "--size", "30", "--test-size", "5",
                               "--seed", "42")  # fmt: skip
    assert report["dropped"].pop("without an answer") == 1  # item 50
    assert sorted(package) == [(42, 30), (72, 5)]
    assert train[0] == {"source": "42 + 1?", "target": {"answer": "043"}}
    assert test[0] == {"source": "72 + 1?", "target": {"answer": "073"}}
    assert (report["examples"], report["test"]) == (29, 5)
    assert set(report["dropped"].values()) == {0}


def test_what_both_sides_have_is_dropped_and_counted(tmp_path, capsys, package):
    report, train, test = made(tmp_path, capsys, "--task", "t", "--size", "30", "--test-size", "4",
                               "--set", "modulo=9")  # fmt: skip
    # Held out are 30 to 33, of nine 3 to 6; trained on are 0 to 29, 0, 1 and 2 four times and
    # the others three times: 12 of them held out, 18 of five numbers left.
    assert report["dropped"] == {
        "held out": 12, "repeated": 13, "repeated held out": 0, "without an answer": 0,
    }  # fmt: skip
    questions = [{each["source"] for each in side} for side in (train, test)]
    assert questions[0] == {f"{n} + 1?" for n in (0, 1, 2, 7, 8)}
    assert questions[1] == {f"{n} + 1?" for n in (3, 4, 5, 6)}


def test_what_cannot_be_made_is_refused_and_nothing_written(tmp_path, capsys, package):
    out, test = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    given = ["--out", str(out), "--test", str(test), "--size", "9", "--test-size", "9"]
    for task, said in (
        ("unknown", "--task unknown {}: Dataset 'unknown' not registered"),
        ("none", "the answer of item 9 is None, expected a text"),
    ):
        assert main([*given, "--task", task]) == 2
        assert said in capsys.readouterr().err
    assert main([*given, "--task", "t", "--set", "modulo=3"]) == 2
    assert "every training item is held out, too" in capsys.readouterr().err
    assert not out.exists()
    assert not test.exists()


def test_without_the_package_it_says_which_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    given = ["--out", str(tmp_path / "a"), "--test", str(tmp_path / "b"), "--task", "t"]
    assert main(given) == 2
    assert "pip install 'mifirst[reasoning]'" in capsys.readouterr().err


def test_the_package_makes_disjoint_sides(tmp_path, capsys):
    pytest.importorskip("reasoning_gym", reason="optional: pip install 'mifirst[reasoning]'")
    report, train, test = made(tmp_path, capsys, "--task", "base_conversion", "--size", "200",
                               "--test-size", "50", "--set", "max_value=500")  # fmt: skip
    questions = [{each["source"] for each in side} for side in (train, test)]
    assert not questions[0] & questions[1]
    dropped = report["dropped"]
    assert report["examples"] + report["test"] + sum(dropped.values()) == 250
    assert all(each["target"]["answer"] for each in train)
