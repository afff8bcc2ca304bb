import json

import pytest

from pretrain.config import load_config
from pretrain.tasks.records.config import RecordsData
from pretrain.tasks.records.data import RecordDataset
from tools.data import wordnet

NOUNS = """\
  1 This software and database is being provided to you
00000001 03 n 01 entity 0 001 ~ 00000002 n 0000 | that which is
00000002 03 n 02 animal 0 beast 1 001 @ 00000001 n 0000 | a living one; "an animal lives"; "more"
00000003 03 n 01 dog 0 002 @ 00000002 n 0000 #m 00000002 n 0000 | it barks; and bites
00000004 03 n 01 Rex 0 001 @i 00000003 n 0000 | a certain dog
00000005 03 n 01 dog 0 002 @ 00000002 n 0000 @ 00000001 n 0000 | another kind of it
00000006 03 n 0a a 0 b 0 c 0 d 0 e 0 f 0 g 0 h 0 i 0 j 0 001 @ 00000005 n 0000 | ten words
"""


@pytest.fixture
def nouns(tmp_path):
    path = tmp_path / "data.noun"
    path.write_text(NOUNS)
    return path


def run(capsys, *arguments):
    assert wordnet.main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_definitions_and_their_hypernyms(nouns, tmp_path, capsys):
    out = tmp_path / "o.jsonl"
    report = run(capsys, "--out", out, "--nouns", nouns, "--levels", 3, "--minimum", 1)
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(one["source"], list(one["target"].values())) for one in found] == [
        ("it barks; and bites", ["animal", "-", "-"]),
        ("a certain dog", ["animal", "dog", "-"]),
        ("another kind of it", ["animal", "-", "-"]),
        ("ten words", ["animal", "dog#2", "-"]),
    ]
    assert list(found[0]["target"]) == ["level1", "level2", "level3"]
    assert report["classes"] == [1, 2, 0]
    assert report["depths"] == {"1": 2, "2": 2}
    assert (report["written"], report["synsets"]) == (4, 6)
    run(capsys, "--out", out, "--nouns", nouns, "--levels", 2, "--minimum", 2)
    assert {json.loads(line)["target"]["level2"] for line in out.read_text().splitlines()} == {"-"}


def test_levels_are_units(nouns, tmp_path, capsys):
    out = tmp_path / "o.jsonl"
    run(capsys, "--out", out, "--nouns", nouns, "--levels", 2, "--minimum", 1)
    kinds = {name: {"kind": "category"} for name in ("level1", "level2")}
    data = {
        "task": "records",
        "path": out,
        "target": ["level1", "level2"],
        "field_settings": kinds,
        "test_fraction": 0.25,
    }
    config = load_config(None, {"data": data, "model": {"sequence_length": 16}})
    dataset = RecordDataset(RecordsData.of(config))
    assert dataset.unit_names == ("level1", "level2")


def test_errors_name_the_way_out(nouns, tmp_path, capsys):
    out = ["--out", str(tmp_path / "o"), "--nouns"]
    assert wordnet.main([*out, str(tmp_path / "none")]) == 2
    assert "apt-get install wordnet-base" in capsys.readouterr().err
    assert wordnet.main([*out, str(nouns)]) == 2
    assert "choose a smaller --minimum" in capsys.readouterr().err
    for wrong, message in (
        (
            NOUNS.replace("00000001 03 n 01 entity", "00000001 03 n zz entity"),
            ":2: expected a noun",
        ),
        (
            NOUNS.replace("00000001 03 n 01 entity 0 001 ~", "00000001 03 n 01 entity 0 001 @"),
            "circle",
        ),
        (NOUNS.replace("@i 00000003", "@i 00000033"), "hypernym 00000033 of 00000004 is not there"),
    ):
        nouns.write_text(wrong)
        assert wordnet.main([*out, str(nouns)]) == 2
        assert message in capsys.readouterr().err
