import importlib
import json
import os
import re
import string
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pretrain.data.tokenizers import (
    SPECIALS,
    CharacterTokenizer,
    HuggingFaceTokenizer,
    SymbolTokenizer,
    WordTokenizer,
    load_tokenizer,
    pieces,
    save_tokenizer,
    split_words,
    train_pieces,
)
from pretrain.errors import UserError

NUMBERS = [f"In {year} there were {7 * year + 13} of 1234567890." for year in range(1900, 2000)]
WORDS = ["The plan of the end is blank.", "A cat; the cat's café (naïve) – 100% of it, no?"] * 20
LINES = [*NUMBERS, *WORDS, "mixed a1b2c3 <plan> </plan> <end> <pad> <unk> <blank> <|end|>"]
ODD = [
    "", " ", "  a  b ", "\t\r\n", "\n\n", "▁", "a▁ ▁b", "▅", "⁇", "\0", "a\0b", "\x1b[0m\x7f",
    "e\u0301", "नमस्ते", "👩\u200d🚀", "🇩🇪", "ﬁ①²½", "\ufeff\u200b\u202e", "日本語", "\U0010ffff",
    "<0x41>", "<s></s>", *SPECIALS, "<unk>", "x<plan>y", "<|end|>", "[UNK]",
]  # fmt: skip
SIZE = 316
NAMES = ["characters", "words", "unigram", "bpe", "hugging_face"]
FEW = settings(max_examples=150)


def hugging_face_text(individual_digits: bool = True, **switches: object) -> str:
    tokenizers = pytest.importorskip("tokenizers", reason="optional: reads Hugging Face's files")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    split = tokenizers.pre_tokenizers
    parts = [split.ByteLevel(add_prefix_space=False, use_regex=individual_digits)]
    if individual_digits:
        parts.insert(0, split.Digits(individual_digits=True))
    made.pre_tokenizer = split.Sequence(parts)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>", "<plan>"],
        initial_alphabet=split.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(LINES, trainer)
    if switches.get("truncated"):
        made.enable_truncation(3)
        made.enable_padding(length=50)
    return made.to_str()


@pytest.fixture(scope="module")
def made():
    """A tokenizer of each kind by name, made once."""
    fitted = {kind: train_pieces(LINES, kind, SIZE) for kind in ("unigram", "bpe")}
    characters = sorted(set("".join(LINES)))
    words = sorted({word for line in LINES for word in split_words(line)})

    def get(name):
        if name == "hugging_face":
            if name not in fitted:
                fitted[name] = HuggingFaceTokenizer(hugging_face_text())
            return fitted[name]
        lists = {"characters": (CharacterTokenizer, characters), "words": (WordTokenizer, words)}
        return lists[name][0](lists[name][1]) if name in lists else fitted[name]

    return get


def check_round_trip(tokenizer, text):
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64
    assert ids.ndim == 1
    assert not len(ids) or ids.max() < tokenizer.text_ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, specials=True) == text


@FEW
@given(st.text())
def test_characters_come_back_if_the_alphabet_covers_them(text):
    check_round_trip(CharacterTokenizer(sorted(set(text))), text)


@pytest.mark.parametrize("name", ["unigram", "bpe", "hugging_face"])
def test_every_text_comes_back(made, name):
    tokenizer = made(name)

    @FEW
    @given(st.text() | st.lists(st.sampled_from([*ODD, "the", " ", "12"])).map("".join))
    def check(text):
        check_round_trip(tokenizer, text)

    for text in ODD:
        check_round_trip(tokenizer, text)
    check()


@FEW
@given(st.text())
@example("cafe\u0301s e\u0301")
@example("नमस्ते don't")
def test_words_keep_everything_but_white_space(text):
    words = split_words(text)
    assert "".join(words) == "".join(text.split())
    tokenizer = WordTokenizer(sorted(set(words)))
    back = tokenizer.decode(tokenizer.encode(text))
    assert "".join(back.split()) == "".join(text.split())


@pytest.mark.parametrize(
    "text",
    [
        'Hello (world), it is "the training" at 3.5% of 1,234 & two-digit don\'t + this = x.',
        '"Yes", he said; a/b. In 12 ways: 1. go…',
        "At 12:30 the cat's café [really]?",
        "",
    ],
)
def test_words_are_decoded_readably(text):
    tokenizer = WordTokenizer(sorted(set(split_words(text))))
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_unknown_text_and_the_order_of_ids():
    characters = CharacterTokenizer.from_counts({"b": 2, "a": 2, "c": 5, "d": 1}, 9)
    assert characters.tokens == ("c", "a", "b")
    assert characters.size == 9
    assert characters.encode("cdb").tolist() == [0, characters.unknown_id, 2]
    assert characters.decode([0, characters.unknown_id, 2]) == "cb"
    assert characters.decode([0, characters.unknown_id, 2], specials=True) == "c<unk>b"
    with pytest.raises(ValueError, match="size 6 has no room beside 6 special tokens; use 7"):
        CharacterTokenizer.from_counts({"a": 1}, 6)
    assert len(CharacterTokenizer.from_counts({"a": 1}, 100).tokens) == 1


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_lie_behind_the_text(made, name):
    tokenizer = made(name)
    assert {tokenizer.special(special) for special in tokenizer.specials} == set(
        range(tokenizer.text_ids, tokenizer.size)
    )
    assert tokenizer.pad_id == tokenizer.special("<pad>")
    plan, end = tokenizer.special("<plan>"), tokenizer.special("</plan>")
    text = tokenizer.encode("cat")
    ids = [plan, *text, end, *text, tokenizer.pad_id, tokenizer.size, -1]
    gap = " " if name == "words" else ""
    assert tokenizer.decode(ids) == gap.join(["cat" + gap + "cat", "?", "?"])
    shown = ["<plan>", "cat", "</plan>", "cat", "<pad>", "?", "?"]
    assert tokenizer.decode(np.array(ids), specials=True) == gap.join(shown)
    with pytest.raises(KeyError, match="no special token '<nope>'; there are <pad>"):
        tokenizer.special("<nope>")


@pytest.mark.parametrize("name", NAMES)
def test_text_never_makes_a_special_token(made, name):
    tokenizer = made(name)
    allowed = {*range(tokenizer.text_ids)} | {tokenizer.unknown_id} - {None}
    names = ["<plan>", "</plan>", "<pad>", "<end>", "<unk>", "<blank>", "<|end|>", "<plan", ">"]

    @FEW
    @given(st.lists(st.sampled_from([*names, "a", " "]) | st.text(max_size=3)).map("".join))
    def check(text):
        assert set(tokenizer.encode(text).tolist()) <= allowed

    check()
    if name != "words":
        assert tokenizer.decode(tokenizer.encode("a <plan> b")) == "a <plan> b"


def test_hugging_faces_own_special_tokens_are_not_looked_for(made):
    tokenizer = made("hugging_face")
    own = tokenizer._tokenizer.token_to_id("<|end|>")
    assert own not in tokenizer.encode("a<|end|>b").tolist()
    assert tokenizer.decode([own]) == ""
    assert tokenizer.decode([own], specials=True) == "<|end|>"
    assert tokenizer.unknown_id is None


@pytest.mark.parametrize("name", NAMES)
@FEW
@given(text=st.text(string.digits + "a .-", max_size=12))
def test_digits_are_single(made, name, text):
    tokenizer = made(name)
    for index in tokenizer.encode(text):
        assert sum(c in string.digits for c in tokenizer.decode([index])) <= 1


@given(st.text(st.characters(categories=["Nd"])))
def test_words_split_digits_of_every_script(text):
    assert split_words(text) == list(text)
    assert all(unicodedata.category(c) == "Nd" for c in text)


@pytest.mark.parametrize("name", NAMES)
def test_saving_keeps_ids_and_fingerprint(made, name, tmp_path):
    tokenizer = made(name)
    ending = "model" if name in ("unigram", "bpe") else "json"
    path = tmp_path / "new" / f"tokenizer.{ending}"
    save_tokenizer(tokenizer, path)
    assert os.listdir(path.parent) == [path.name]
    for place in (path, path.parent):
        loaded = load_tokenizer(place)
        assert type(loaded) is type(tokenizer)
        assert loaded.fingerprint == tokenizer.fingerprint
        assert loaded.size == tokenizer.size
        assert loaded.encode(LINES[3]).tolist() == tokenizer.encode(LINES[3]).tolist()


def test_fingerprints_differ_with_anything(made):
    prints = [
        CharacterTokenizer("ab").fingerprint,
        CharacterTokenizer("ba").fingerprint,
        CharacterTokenizer("abc").fingerprint,
        WordTokenizer(["a", "b"]).fingerprint,
        SymbolTokenizer("ab").fingerprint,
        made("unigram").fingerprint,
        made("bpe").fingerprint,
        train_pieces(LINES, "bpe", SIZE + 1).fingerprint,
        train_pieces([*LINES, "more"], "bpe", SIZE).fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    assert all(len(text) == 64 and set(text) <= set(string.hexdigits) for text in prints)
    assert CharacterTokenizer("ab").fingerprint == CharacterTokenizer(["a", "b"]).fingerprint


def test_the_special_tokens_count_in_the_fingerprint(made):
    for name in ("characters", "words", "bpe"):
        tokenizer = made(name)
        before = tokenizer.fingerprint
        specials = tokenizer.specials
        tokenizer.specials = specials[::-1]
        assert tokenizer.fingerprint != before
        tokenizer.specials = specials


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_training_pieces_is_deterministic_and_names_the_largest_size(made, kind):
    assert train_pieces(iter(LINES), kind, SIZE).model == made(kind).model
    with pytest.raises(UserError, match=r"size 90000 is more .* largest possible is (\d+)") as info:
        train_pieces(LINES, kind, 90000)
    largest = int(str(info.value).split("possible is ")[1].split()[0])
    assert train_pieces(LINES, kind, largest).size == largest
    with pytest.raises(UserError, match=f"largest possible is {largest} "):
        train_pieces(LINES, kind, largest + 1)
    for size in (3, 270):
        with pytest.raises(UserError, match=rf"size {size} is too small .* use \d+ or more"):
            train_pieces(LINES, kind, size)
    with pytest.raises(UserError, match="too small") as info:
        train_pieces(LINES, kind, 270)
    smallest = int(str(info.value).split("use ")[1].split()[0])
    assert train_pieces(LINES, kind, smallest).size == smallest


def test_only_the_stated_number_of_lines_is_learnt_from(monkeypatch):
    whole = train_pieces(LINES, "bpe", SIZE).model
    assert train_pieces([*LINES, *WORDS], "bpe", SIZE).model != whole
    monkeypatch.setattr(pieces, "INPUT_SENTENCES", len(LINES))
    first = train_pieces(LINES, "bpe", SIZE)
    assert train_pieces([*LINES, *WORDS, "more"], "bpe", SIZE).model == first.model


def test_lines_with_reserved_characters_are_learnt_from():
    lines = ["zebra▁zebra▅zebra\0zebra " * 3] * 50
    tokenizer = train_pieces([*LINES, *lines], "bpe", SIZE)
    assert len(tokenizer.encode("zebra zebra")) <= 4


def test_symbols_keep_their_ids():
    symbols = SymbolTokenizer("0123456789+-*=")
    assert symbols.encode("3*=").tolist() == [3, 12, 13]
    assert (symbols.size, symbols.pad_id, symbols.unknown_id) == (15, 14, None)
    assert symbols.special("<pad>") == 14
    assert symbols.decode([3, 14, 99, 12]) == "3??*"
    assert symbols.decode([3, 14, 99], specials=True) == "3<pad>?"
    with pytest.raises(KeyError, match="<plan>"):
        symbols.special("<plan>")
    with pytest.raises(ValueError, match="not in the alphabet"):
        symbols.encode("x")
    with pytest.raises(ValueError, match="not distinct"):
        SymbolTokenizer("00")


def words_file(**changes: object) -> bytes:
    return json.dumps({"kind": "words", "format": 1, "tokens": ["a", "b"], **changes}).encode()


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("t.json", b"\xff", "not JSON"),
        ("t.json", b"{", "not JSON .*by the ending .model"),
        ("t.json", b"[]", "JSON without a kind; expected kind characters or words"),
        ("t.json", words_file(kind="glyphs"), "kind 'glyphs'; expected kind characters or words"),
        ("t.json", words_file(kind=["words"]), r"kind \['words'\]; expected"),
        ("t.json", words_file(format=2), "format 2; this version reads 1"),
        ("t.json", words_file(tokens="ab"), "tokens is no list of strings"),
        ("t.json", words_file(tokens=[1]), "tokens is no list of strings"),
        ("t.json", words_file(tokens=["a", "b", "a"]), "has 'a' more than once"),
        ("t.json", words_file(tokens=["12"]), "'12', which text is never cut into"),
        ("t.json", words_file(kind="characters"), None),
        ("t.json", words_file(kind="characters", tokens=["ab"]), "'ab', which text is never"),
        ("t.model", b"", "damaged one .it is empty.; copy it again"),
        ("t.model", b"abc", "no SentencePiece model, or a damaged one"),
        ("t.model", words_file(), "no SentencePiece model, or a damaged one"),
    ],
)
def test_files_that_are_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    if message is None:
        assert load_tokenizer(path).size == 8
        return
    with pytest.raises(UserError, match=message) as info:
        load_tokenizer(path)
    assert str(info.value).startswith(f"{path}: ")


def test_a_damaged_model_is_refused(made, tmp_path):
    path = tmp_path / "t.model"
    model = made("bpe").model
    for content in (model[:100], model[: len(model) // 2], model[3000:]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"t\.model: "):
            load_tokenizer(path)


@pytest.mark.parametrize(
    "option, message",
    [
        ({"byte_fallback": False}, "no bytes to fall back to; train it with byte_fallback"),
        ({"split_digits": False}, "joins digits with others .*train it with split_digits"),
        ({"add_dummy_prefix": True}, "add_dummy_prefix=False"),
        ({"remove_extra_whitespaces": True}, "remove_extra_whitespaces=False"),
        ({"normalization_rule_name": "nmt_nfkc"}, "normalization_rule_name=identity"),
    ],
)
def test_models_that_do_not_keep_text_are_refused(option, message, monkeypatch):
    import sentencepiece

    train = sentencepiece.SentencePieceTrainer.train

    def changed(**options):
        if not option.get("split_digits", True):
            options["required_chars"] = ""
        train(**{**options, **option})

    monkeypatch.setattr(sentencepiece.SentencePieceTrainer, "train", changed)
    size = SIZE if option.get("byte_fallback", True) else 120
    with pytest.raises(ValueError, match=message):
        train_pieces(LINES, "bpe", size)


def test_paths_that_are_refused(made, tmp_path):
    with pytest.raises(UserError, match=r"nowhere: there is no such file; make one"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds neither tokenizer\.json nor tokenizer\.model"):
        load_tokenizer(tmp_path)
    save_tokenizer(CharacterTokenizer("ab"), tmp_path / "tokenizer.json")
    save_tokenizer(made("bpe"), tmp_path / "tokenizer.model")
    with pytest.raises(UserError, match="holds both"):
        load_tokenizer(tmp_path)
    with pytest.raises(UserError, match=r"must end in \.model.*use .*x\.model"):
        save_tokenizer(made("bpe"), tmp_path / "x.json")
    with pytest.raises(UserError, match=r"must end in \.json"):
        save_tokenizer(CharacterTokenizer("ab"), tmp_path / "x.model")
    with pytest.raises(UserError, match="cannot be written"):
        save_tokenizer(CharacterTokenizer("ab"), tmp_path / "tokenizer.json" / "x.json")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "t.json"
    save_tokenizer(CharacterTokenizer("ab"), path)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"t\.json: cannot be written \(No space left"):
        save_tokenizer(CharacterTokenizer("xyz"), path)
    assert os.listdir(tmp_path) == ["t.json"]
    assert load_tokenizer(path).encode("b").tolist() == [1]


def test_hugging_faces_joined_digits_are_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(hugging_face_text(individual_digits=False))
    with pytest.raises(UserError, match=r"digits, and digits must be single.*individual_digits"):
        load_tokenizer(path)

    # Of a corpus that is tokenized already they are taken.
    tokenizer = load_tokenizer(path, any_digits=True)
    assert tokenizer.decode(tokenizer.encode("2024")) == "2024"


@pytest.mark.parametrize("before", ["Ġ", "-", "a"])
def test_hugging_faces_digits_joined_behind_something_are_refused(before):
    tokenizers = pytest.importorskip("tokenizers", reason="optional: reads Hugging Face's files")
    pairs = [(before, "2"), (f"{before}2", "0"), (f"{before}20", "2"), (f"{before}202", "4")]
    tokens = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    ids = {token: i for i, token in enumerate([*tokens, *(a + b for a, b in pairs)])}
    built = tokenizers.Tokenizer(tokenizers.models.BPE(ids, pairs))
    built.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = tokenizers.decoders.ByteLevel()
    if before == "Ġ":
        with pytest.raises(ValueError, match="digits must be single"):
            HuggingFaceTokenizer(built.to_str())
        return
    built.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    with pytest.raises(ValueError, match="digits must be single"):
        HuggingFaceTokenizer(built.to_str())


@pytest.mark.parametrize("digits", ["١٢", "१२", "１２"])
def test_hugging_faces_joined_digits_of_other_scripts_are_refused(digits):
    """In UTF-8 they are several bytes, each a sign of its own in the file."""
    tokenizers = pytest.importorskip("tokenizers", reason="optional: reads Hugging Face's files")
    split = tokenizers.pre_tokenizers
    level = split.ByteLevel(add_prefix_space=False)
    one, two = ("".join(part for part, _ in level.pre_tokenize_str(digit)) for digit in digits)
    pairs = [(digit[:end], digit[end]) for digit in (one, two) for end in range(1, len(digit))]
    pairs = [*dict.fromkeys(pairs), (one, two)]
    tokens = [*sorted(split.ByteLevel.alphabet()), *(a + b for a, b in pairs)]
    ids = {token: number for number, token in enumerate(tokens)}
    built = tokenizers.Tokenizer(tokenizers.models.BPE(ids, pairs))
    built.decoder = tokenizers.decoders.ByteLevel()
    built.pre_tokenizer = level
    with pytest.raises(ValueError, match=f"encodes '{digits}' .* 2 digits, and digits must be"):
        HuggingFaceTokenizer(built.to_str())
    single = split.Digits(individual_digits=True)
    built.pre_tokenizer = split.Sequence([single, level])
    assert HuggingFaceTokenizer(built.to_str()).decode([ids[one + two]]) == digits


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_pieces_do_not_join_digits_of_other_scripts(kind, monkeypatch):
    lines = ["word ١٢ ١٢ १२ १२ １２ １２"] * 2000
    tokenizer = train_pieces([*LINES, *lines], kind, SIZE)
    for text in ("١٢٣", " १२", "x１２"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        shown = [tokenizer.decode([index]) for index in tokenizer.encode(text)]
        assert all(sum(c.isdecimal() for c in part) <= 1 for part in shown)
    if kind == "unigram":  # learns no joined ones of these few
        return
    monkeypatch.setattr(pieces, "OTHER_DIGIT", re.compile("(?!)"))
    with pytest.raises(ValueError, match=r"joins digits with others \('"):
        train_pieces([*LINES, *lines], kind, SIZE)


@pytest.mark.parametrize(
    "name, lossless",
    [
        ("characters", True),
        ("words", False),
        ("bpe", True),
        ("unigram", True),
        ("hugging_face", True),
    ],
)
def test_what_gives_text_back(made, name, lossless):
    assert made(name).lossless is lossless


@pytest.mark.parametrize("change", ["lower", "nfkc", "strip", "prefix", "words"])
def test_hugging_faces_files_that_lose_text(change):
    tokenizers = pytest.importorskip("tokenizers", reason="optional: reads Hugging Face's files")
    built = tokenizers.Tokenizer.from_str(hugging_face_text())
    normalizers, split = tokenizers.normalizers, tokenizers.pre_tokenizers
    if change == "words":
        built = tokenizers.Tokenizer(
            tokenizers.models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]")
        )
        built.pre_tokenizer = split.Whitespace()
    elif change == "prefix":
        single = split.Digits(individual_digits=True)
        built.pre_tokenizer = split.Sequence([single, split.ByteLevel(add_prefix_space=True)])
    else:
        kinds = {"lower": "Lowercase", "nfkc": "NFKC", "strip": "Strip"}
        built.normalizer = getattr(normalizers, kinds[change])()
    assert not HuggingFaceTokenizer(built.to_str()).lossless


def test_hugging_faces_truncation_and_padding_are_off(made):
    truncated = HuggingFaceTokenizer(hugging_face_text(truncated=True))
    assert truncated.encode(LINES[0]).tolist() == made("hugging_face").encode(LINES[0]).tolist()


def test_hugging_faces_damaged_file_is_refused(tmp_path):
    pytest.importorskip("tokenizers", reason="optional: reads Hugging Face's files")
    path = tmp_path / "tokenizer.json"
    path.write_text('{"version": "1.0", "model": {"type": "BPE"}}')
    with pytest.raises(UserError, match=r"tokenizer\.json: no tokenizer\.json that the package"):
        load_tokenizer(path)


def test_the_missing_package_is_named(tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.json"
    path.write_text('{"version": "1.0", "model": {"type": "BPE"}}')
    found = importlib.import_module

    def missing(name, *rest):
        if name == "tokenizers":
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"package tokenizers.*run: pip install tokenizers"):
        load_tokenizer(path)
