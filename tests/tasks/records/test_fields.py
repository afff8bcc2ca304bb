"""Fields of records: every value comes back exactly, and what is no value is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.data.tokenizers import RecordTokenizer, load_tokenizer, save_tokenizer
from pretrain.data.tokenizers.records import EMPTY, MISSING, Field
from pretrain.errors import ConfigError, UserError
from pretrain.tasks.records.config import FieldSettings
from pretrain.tasks.records.fields import infer

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda t: t != MISSING)
WHOLE = st.integers(-(10**12), 10**12)


def field(name="f", optional=False, **settings):
    values = settings.pop("of")
    return infer(name, values, FieldSettings(**settings), optional)


def tokenizer_of(*fields: Field) -> RecordTokenizer:
    units = list(dict.fromkeys([EMPTY, *sorted(set().union(*(f.known for f in fields)))]))
    return RecordTokenizer(units, len(units), fields, fields)


@st.composite
def columns(draw):
    """A field of some kind, and values of it, some missing."""
    kind = draw(st.sampled_from(["string", "number", "category"]))
    one = {
        "string": WORDS,
        "number": draw(st.sampled_from([WHOLE, WHOLE.map(str), st.integers(0, 99)])),
        "category": draw(
            st.sampled_from(
                [WORDS, st.booleans(), WHOLE, st.floats(allow_nan=False, allow_infinity=False)]
            )
        ),
    }[kind]
    values = draw(st.lists(one, min_size=1, max_size=6))
    optional = draw(st.booleans())
    found = field(of=values, kind=kind, optional=optional)
    return found, [*values, *[None] * optional]


@given(st.lists(columns(), min_size=1, max_size=4))
@settings(max_examples=150)
def test_records_come_back_exactly(given_columns):
    fields = [
        each.model_copy(update={"name": f"f{number}"})
        for number, (each, _) in enumerate(given_columns)
    ]
    tokenizer = tokenizer_of(*fields)
    for number, (each, (_, values)) in enumerate(zip(fields, given_columns, strict=True)):
        for value in values:
            others = [other.split(column[0]) for other, (_, column) in
                      zip(fields, given_columns, strict=True)]  # fmt: skip
            others[number] = each.split(value)
            assert len(others[number]) == each.units == len(each.unit_names)
            record = tokenizer.record(tokenizer.ids([u for units in others for u in units]))
            back = record[each.name]
            assert back == value
            assert type(back) is type(value)
            assert json.dumps(back) == json.dumps(value)


def test_kinds_are_told_from_values():
    assert field(of=[7, 120]).model_dump(include={"kind", "width", "signed", "quoted"}) == {
        "kind": "number", "width": 3, "signed": False, "quoted": False,
    }  # fmt: skip
    assert field(of=["7", "-120"]).unit_names == ("f[0]", "f[1]", "f[2]", "f[3]")
    assert field(of=["7", "007"]).kind == "string"  # 007 is no number that comes back
    assert field(of=["red", "blue"] * 10).values == ("blue", "red")
    assert field(of=["red", "blue"]).kind == "string"
    assert field(of=[True, False]).kind == field(of=[0.5]).kind == "category"
    long = field(of=["a description of some package, " * 3])
    assert (long.kind, long.width) == ("text", 18)
    assert field(of=["word " * 100]).width == 64
    assert field(of=["12", "5"], kind="category").units == 1


@pytest.mark.parametrize(
    "made, value, said",
    [
        ({"of": [12, 7]}, 123, "wider than its 2 digits; raise data.field_settings.f.width to 3"),
        ({"of": [12, 7]}, -1, "below 0, but has no sign"),
        ({"of": [12, 7]}, "7", 'is "7", expected a number, true or false'),
        ({"of": ["12", "7"]}, "07", "without leading zeros"),
        ({"of": ["12", "7"]}, 7, "is 7, expected a text"),
        ({"of": ["ab"], "kind": "string"}, "abc", "wider than its 2 characters"),
        ({"of": ["ab"], "kind": "string"}, "ax", "the character 'x'"),
        ({"of": ["red"], "kind": "category"}, "tan", "none of its categories ('red')"),
        ({"of": ["red"]}, None, "missing or null"),
        ({"of": ["red"], "kind": "category", "optional": True}, MISSING, "stands for no value"),
        ({"of": [0.5]}, float("nan"), "not JSON compliant"),
    ],
)
def test_what_is_no_value_of_a_field_says_why(made, value, said):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        field(**made).split(value)
    assert said in str(error.value)


def test_values_can_be_named_and_widths_given():
    assert field(of=["red"], kind="category", values=["tan"]).split("tan") == ("tan",)
    assert field(of=["ab"], kind="string", values=["x"], width=3).split("ax") == ("a", "x", "")
    assert field(of=[7], width=4).split(12) == ("0", "0", "1", "2")


@pytest.mark.parametrize(
    "units, made",
    [
        (["a", "", "b"], {"of": ["aab"], "kind": "string"}),  # an end in the middle
        (["1", "+"], {"of": [-12]}),
        (["-", "0", "0"], {"of": [-12]}),  # -0 is written +0
        (["red"], {"of": ["blue"], "kind": "category"}),
        ([MISSING, "1"], {"of": [12], "optional": True}),
    ],
)
def test_malformed_units_are_no_value(units, made):
    with pytest.raises(ValueError):  # noqa: PT011
        field(**made).join(units)


@pytest.mark.parametrize(
    "made, said",
    [
        ({"of": [7], "kind": "string"}, "kind string: its values are no texts, such as 7"),
        ({"of": [n / 7 for n in range(2000)]}, "2,000 distinct values"),
    ],
)
def test_a_field_of_no_kind_is_refused(made, said):
    with pytest.raises(ConfigError, match=said):
        field(**made)


def test_the_tokenizer_comes_back_from_its_file_and_reads_prompts(tmp_path):
    source = (field("year", of=[1996]), field("said", of=["a red cat"], kind="text"))
    target = (field("code", of=["A7"], kind="string"),)
    units = ["", *"0123456789", "7", "A"]
    units = list(dict.fromkeys(units))
    tokenizer = RecordTokenizer([*units, "red"], len(units), source, target)
    save_tokenizer(tokenizer, tmp_path / "t.json")
    again = load_tokenizer(tmp_path / "t.json")
    assert isinstance(again, RecordTokenizer)
    assert (again.source, again.target, again.tokens) == (source, target, tokenizer.tokens)
    assert again.fingerprint == tokenizer.fingerprint
    assert not again.lossless
    ids = again.encode('{"year": 42, "said": "red hat"}')
    assert again.decode(ids, specials=True) == "0 0 4 2 red <unk> <empty> <plan>"
    assert again.as_json(again.ids(["A", "7"])) == '{"code": "A7"}'
    assert again.as_json([again.size, 0]) == "{}"
    for prompt, said in (
        ("red hat", "expected a JSON object with the fields year, said"),
        ('{"years": 1}', "expected a JSON object"),
        ('{"year": 1}', "the field said is missing"),
    ):
        with pytest.raises(ValueError, match=said):
            again.encode(prompt)
    other = RecordTokenizer(tokenizer.tokens, len(units), source[:1], target)
    assert other.fingerprint != tokenizer.fingerprint
    broken = json.loads((tmp_path / "t.json").read_text())
    broken["target"][0]["values"] = ["q"]
    (tmp_path / "t.json").write_text(json.dumps(broken))
    with pytest.raises(UserError, match=r"t.json: the unit 'q' of a field"):
        load_tokenizer(tmp_path / "t.json")


def test_a_text_alone_is_its_own_prompt():
    said = field("text", of=["a red cat"], kind="text")
    tokenizer = RecordTokenizer(["", "7", "red"], 2, [said], [field("c", of=["7"], kind="string")])
    assert tokenizer.decode(tokenizer.encode("red"), specials=True) == (
        "red <empty> <empty> <plan>"
    )
