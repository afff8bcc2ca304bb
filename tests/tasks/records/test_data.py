"""Records of files as examples: splits, tokens, presence of words, every refusal by its line."""

import gzip
import json

import numpy as np
import pytest

from pretrain.errors import ConfigError, UserError
from pretrain.tasks.records.config import RecordsData
from pretrain.tasks.records.data import RecordDataset
from pretrain.tasks.records.presence import informative

GOOD = [
    {"source": {"a": n, "b": "xyz"[n % 3] + "."}, "target": {"sum": n + 5, "odd": n % 2 > 0}}
    for n in range(40)
]


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def dataset(tmp_path, records, **settings):
    path = write(tmp_path / "r.jsonl", records)
    return RecordDataset(RecordsData(path=path, **settings))


def targets(examples, tokenizer):
    return [tokenizer.record(row) for row in examples.target]


def test_records_become_examples_of_fixed_widths(tmp_path):
    found = dataset(tmp_path, GOOD, split_seed=1)
    assert found.unit_names == ("sum[0]", "sum[1]", "odd")
    assert (len(found.train), len(found.test)) == (36, 4)
    source = found.tokenizer.decode(found.train.source[0], specials=True)
    target = found.tokenizer.record(found.train.target[0])
    first = next(r for r in GOOD if r["target"]["sum"] == target["sum"])
    digits = " ".join(f"{first['source']['a']:02d}")
    assert source == f"{digits} {first['source']['b']} <plan>"
    assert found.train.feature_columns == (0, 1, 2)
    every = targets(found.every(), found.tokenizer)
    assert sorted(every, key=lambda r: r["sum"]) == [r["target"] for r in GOOD]
    assert max(found.every().target.max(), found.train.features.max()) < found.values
    # Units of targets come first, so that a table of them is small.
    assert found.tokenizer.tokens[1:13] == (*"0123456789", "false", "true")


def test_the_order_of_fields_is_the_files_or_as_told(tmp_path):
    assert dataset(tmp_path, GOOD, target=["odd", "sum"]).unit_names[0] == "odd"
    assert dataset(tmp_path, GOOD, target=["odd"]).unit_names == ("odd",)  # others are ignored


def test_equal_sources_lie_on_one_side(tmp_path):
    twice = [*GOOD, *GOOD]
    found = dataset(tmp_path, twice, test_fraction=0.3)
    sides = [{tuple(row) for row in side.source} for side in (found.train, found.test)]
    assert not sides[0] & sides[1]
    test_path = write(tmp_path / "t.jsonl", GOOD[:5])
    apart = dataset(tmp_path, GOOD, test_path=test_path)
    assert (len(apart.train), len(apart.test)) == (35, 5)


def test_columns_of_a_table_are_fields(tmp_path):
    lines = ["id,a,b,code"] + [f'x,{n},"p, {n % 2}\nq",0{n}' for n in range(10, 40)]
    path = tmp_path / "r.csv.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    columns = {"source": ["a", "b"], "target": ["code"]}
    found = RecordDataset(RecordsData(path=path, **columns))
    codes = sorted(r["code"] for r in targets(found.every(), found.tokenizer))
    assert codes == [f"0{n}" for n in range(10, 40)]
    with pytest.raises(UserError, match=r"r.csv.gz, line 3: found the fields id, a, b, code"):
        RecordDataset(RecordsData(path=path))
    absent = {**columns, "target": ["price"]}
    with pytest.raises(UserError, match=r"r.csv.gz, line 3: target: the field price is missing"):
        RecordDataset(RecordsData(path=path, **absent))


def test_missing_values_are_a_category_where_told(tmp_path):
    records = [*GOOD, {"source": {"a": 40}, "target": {"sum": None, "more": "z"}}]
    found = dataset(tmp_path, records, missing="category")
    assert found.unit_names == ("sum[0]", "sum[1]", "odd", "more")
    expected = [*({**r["target"], "more": None} for r in GOOD),
                {"sum": None, "odd": None, "more": "z"}]  # fmt: skip
    back = targets(found.every(), found.tokenizer)
    assert sorted(back, key=str) == sorted(expected, key=str)


BAD = {
    "a missing value": ({"source": {"a": 1}, "target": {"sum": 6, "odd": True}},
        "source: the field b is missing or null; set data.missing to category to keep it"),
    "null": ({"source": {"a": 1, "b": "x."}, "target": {"sum": None, "odd": True}},
        "target: the field sum is missing or null; set data.missing"),
    "another field": ({"source": {"a": 1, "b": "x."}, "target": {"sum": 6, "odd": True, "n": 1}},
        "target has the field n; the first record has sum, odd; set data.missing"),
    "another type": ({"source": {"a": "1", "b": "x."}, "target": {"sum": 6, "odd": True}},
        'source: the field a is "1", expected a number, true or false as in the other records'),
    "no whole number": ({"source": {"a": 1.5, "b": "x."}, "target": {"sum": 6, "odd": True}},
        "source: the field a is '1.5', expected a whole number without leading zeros"),
    "a list": ({"source": {"a": [1], "b": "x."}, "target": {"sum": 6, "odd": True}},
        "source: the field a is '[1]'; expected a text, a number, true, false or null"),
    "no target": ({"source": {"a": 1, "b": "x."}},
        "found the fields source (no target); expected {\"source\": {...}, \"target\": {...}}"),
    "half a pair": ({"source": {"a": 1, "b": "\ud800"}, "target": {"sum": 6, "odd": True}},
        "source: the field b cannot be written: half of a surrogate pair (\\ud800)"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
def test_a_record_unlike_the_others_is_refused_by_its_line(tmp_path, name):
    record, said = BAD[name]
    with pytest.raises(UserError) as error:
        dataset(tmp_path, [*GOOD, record])
    assert str(error.value).startswith(f"{tmp_path}/r.jsonl, line 41: {said}")


@pytest.mark.parametrize(
    "change, said",
    [
        ({"source": {"a": 123, "b": "x."}}, "source: the field a is '123', wider than its 2"),
        ({"source": {"a": -1, "b": "x."}}, "source: the field a is -1, below 0"),
        ({"source": {"a": 1, "b": "x.."}}, "source: the field b is 'x..', wider than its 2 char"),
        ({"source": {"a": 1, "b": "w."}}, "source: the field b is 'w.', which is none of its cat"),
        ({"target": {"sum": 7, "odd": 2}}, "target: the field odd is '2', which is none of its"),
    ],
)
def test_a_held_out_value_that_training_has_not_is_refused_by_its_line(tmp_path, change, said):
    test_path = write(tmp_path / "t.jsonl", [GOOD[0], {**GOOD[0], **change}])
    settings = {"field_settings": {"b": {"kind": "category" if "category" in said else "string"}}}
    if "none of its cat" in said:
        settings["field_settings"]["b"]["kind"] = "category"
    with pytest.raises(UserError) as error:
        dataset(tmp_path, GOOD, test_path=test_path, **settings)
    assert str(error.value).startswith(f"{test_path}, line 2: {said}")


def test_what_a_field_is_can_be_told(tmp_path):
    test_path = write(tmp_path / "t.jsonl", [{**GOOD[0], "source": {"a": 123, "b": "w."}}])
    told = {"a": {"width": 3}, "b": {"kind": "category", "values": ["w."]}}
    found = dataset(tmp_path, GOOD, test_path=test_path, field_settings=told)
    decoded = found.tokenizer.decode(found.test.source[0], specials=True)
    assert decoded == "1 2 3 w. <plan>"


@pytest.mark.parametrize(
    "records, settings, said",
    [
        (GOOD, {"field_settings": {"c": {}}}, r"names c, but .* the fields a, b, sum, odd"),
        ([{"source": {}, "target": {"t": 1}}], {}, r"line 1: source has no field"),
        ([], {}, r"r.jsonl is empty; expected"),
        ([{"source": "q", "target": {"t": "a long answer of many words, " * 3}}], {},
         r"target's field t has texts of up to 87 characters"),
    ],
)  # fmt: skip
def test_what_no_field_can_be_made_of_is_refused(tmp_path, records, settings, said):
    with pytest.raises((UserError, ConfigError), match=said):
        dataset(tmp_path, records, **settings)


def test_plain_text_has_no_fields(tmp_path):
    (tmp_path / "r.txt").write_text("a text\n")
    with pytest.raises(UserError, match=r"r.txt: plain text has no fields"):
        RecordDataset(RecordsData(path=tmp_path / "r.txt"))


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"source": ["a", "a"]}, "data.source names a twice"),
        ({"field_settings": {"a": {"kind": "category", "width": 2}}}, "width 2 is of no use"),
        ({"field_settings": {"a": {"values": ["x"]}}}, "values x need kind"),
        ({"path": None}, "needs data.path"),
    ],
)
def test_a_section_that_contradicts_itself_is_refused(tmp_path, settings, said):
    with pytest.raises(ValueError, match=said):
        RecordsData(**{"path": tmp_path / "r.jsonl", **settings})


def test_texts_count_as_the_presence_of_their_most_informative_words(tmp_path):
    rng = np.random.default_rng(0)
    records = []
    for n in range(200):
        colour = rng.choice(["red", "blue"])
        size = rng.choice(["big", "small", "tiny"])
        other = rng.choice(["the", "a", "some"], 5)
        said = " ".join(rng.permutation([colour, size, *other]))
        records.append({"source": f"{said} {n}", "target": {"c": colour[0], "s": size}})
    found = dataset(tmp_path, records, informative_words=5)
    assert found.train.feature_columns == ()
    assert found.train.features.shape == (len(found.train), 5)
    texts, target = found.train.source[:, :-1], found.train.target
    chosen = informative(texts, target, found.tokenizer.ids([""])[0], 5)
    words = [found.tokenizer.tokens[i] for i in chosen]
    assert set(words) == {"red", "blue", "big", "small", "tiny"}
    for row, side in ((3, found.train), (2, found.test)):
        there = [word in found.tokenizer.decode(side.source[row]).split() for word in words]
        assert side.features[row].tolist() == there
    assert found.every().features.shape == (200, 5)


def test_informative_is_the_information_of_its_definition():
    texts = np.array([[5, 6], [5, 0], [6, 7], [6, 6]])
    target = np.array([[1, 3], [1, 4], [2, 3], [2, 4]])
    # 5: in both of the texts of value 1: 1 bit. 6: 3 of 4. 7: 1 of 4.
    assert informative(texts, target, 0, 9).tolist() == [5, 6, 7]
    assert informative(texts, target, 0, 2).tolist() == [5, 6]
    assert informative(np.array([[0]]), np.array([[1]]), 0, 2).tolist() == [0]
