import json
from pathlib import Path

import pytest

from pretrain.data.jsonl import read_labelled
from tools.data import debtags

LISTS = """\
Package: ignored-here
Description-md5: 1
Description-en: a game
 Long text.
 .
  * item

Package: one
Version: 1
Description: a game
Description-md5: 1
Tag: role::program, devel::{b,a},
 suite::TODO, special::x, odd

Package: two
Description: short
Tag: role::program, game::rare

Package: two
Description: again
Tag: role::program

Package: three
Description: no tags

Package: four
Tag: role::program

Package: five
Description: placeholder
Tag: devel::lang:TODO
"""


@pytest.fixture
def lists(tmp_path):
    path = tmp_path / "lists"
    path.write_text(LISTS)
    return path


def run(capsys, *arguments):
    assert debtags.main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_descriptions_tags_and_what_is_dropped(lists, tmp_path, capsys):
    out = tmp_path / "o.jsonl"
    report = run(capsys, "--out", out, "--packages", lists, "--minimum", 1)
    first, second = read_labelled(out)
    assert first.text == "a game\nLong text.\n\n * item"
    assert first.labels == ("devel::a", "devel::b", "role::program")
    assert (second.text, second.labels) == ("short", ("game::rare", "role::program"))
    assert report["packages_read"] == 6
    assert report["long_descriptions"] == 1
    assert report["labels_per_text"] == {"2": 1, "3": 1}
    assert report["dropped"] == {
        "duplicates": 1, "without_tags": 1, "without_description": 1, "tags_placeholder": 4,
        "tags_rare": 0, "left_without": 1,
    }  # fmt: skip


def test_rare_tags_go_and_a_sample_repeats(lists, tmp_path, capsys):
    out = tmp_path / "o.jsonl"
    report = run(capsys, "--out", out, "--packages", lists, "--minimum", 2)
    assert report["tags"] == 1
    assert report["dropped"]["tags_rare"] == 3
    run(capsys, "--out", out, "--packages", lists, "--minimum", 2, "--sample", 1)
    chosen = min(("one", "two"), key=debtags.name_hash)
    assert [x.text[:5] for x in read_labelled(out)] == [{"one": "a gam", "two": "short"}[chosen]]


def test_facets_are_fields_of_records(lists, tmp_path, capsys):
    out = tmp_path / "o.jsonl"
    given = ("--out", out, "--packages", lists, "--minimum", 1, "--facets")
    report = run(capsys, *given, "devel,role")
    first, second = map(json.loads, out.read_text().splitlines())
    assert first["source"] == "a game\nLong text.\n\n * item"
    assert first["target"] == {"devel": "a, b", "role": "program"}
    assert list(second["target"].items()) == [("devel", "-"), ("role", "program")]
    assert report["written"] == 2
    run(capsys, *given, "game")
    assert [json.loads(line)["target"] for line in out.open()] == [{"game": "rare"}]
    assert debtags.main([*map(str, given), "rle"]) == 2
    assert "--facets rle: no tag has it; there are devel, game, role" in capsys.readouterr().err


def test_errors_name_the_way_out(lists, tmp_path, capsys, monkeypatch):
    out = ["--out", str(tmp_path / "o")]
    assert debtags.main([*out, "--packages", str(lists)]) == 2
    assert "smaller --minimum" in capsys.readouterr().err
    lists.write_text("Package: a\nDescription: b\n")
    assert debtags.main([*out, "--packages", str(lists)]) == 2
    assert "apt-get -o Acquire::Languages=en update" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert debtags.main(out) == 2
    assert "apt-cache is not installed" in capsys.readouterr().err


def test_the_sample():
    path = Path("data/debtags.sample.jsonl")
    texts = read_labelled(path)
    assert len(texts) == 3000
    assert len({label for text in texts for label in text.labels}) == 223
    assert path.stat().st_size < 2_500_000
