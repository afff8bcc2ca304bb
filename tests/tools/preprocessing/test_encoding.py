import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.data.tokenizers import (
    CharacterTokenizer,
    HuggingFaceTokenizer,
    WordTokenizer,
    train_pieces,
)
from tools.preprocessing import cache as words
from tools.preprocessing.cache import WordTable
from tools.preprocessing.encoding import make_encoder, words_stand_alone

STEMS = ["walk", "talk", "jump", "play", "open", "close", "answer", "turn", "order", "follow"]
ENDINGS = ("", "s", "ed", "ing", "er")
TEXT = [
    f"In {year} the cat {STEMS[year % 10]}{ENDINGS[year % 5]}\n {year * 7} birds,  "
    f"un{STEMS[year % 7]}{ENDINGS[year % 3]} and the dog: none!\n"
    for year in range(99)
]
HARD = "▁▅\0\n\t  aé①👩\u200d🚀theIn19"


def hugging_face():
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Digits(individual_digits=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXT, trainer)
    return HuggingFaceTokenizer(made.to_str())


@pytest.fixture(scope="module")
def every():
    return {
        "bpe": train_pieces(TEXT, "bpe", 330),
        "unigram": train_pieces(TEXT, "unigram", 310),
        "words": WordTokenizer(["the", "cat", "1", "9"]),
        "characters": CharacterTokenizer("the ca\n"),
        "hugging_face": hugging_face(),
    }


@pytest.mark.parametrize("kind", ["bpe", "unigram", "words", "characters", "hugging_face"])
@given(texts=st.lists(st.text(st.sampled_from(HARD), max_size=40) | st.text(), max_size=6))
def test_many_texts_get_the_ids_of_each(every, kind, texts):
    tokenizer = every[kind]
    for dtype in (np.dtype("<u2"), np.dtype("<i4")):
        found = make_encoder(tokenizer, dtype)(texts)
        assert found == [tokenizer.encode(text).astype(dtype).tobytes() for text in texts]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_natural_text_gets_the_ids_of_encode(every, kind):
    encode = make_encoder(every[kind], np.dtype("<u2"))
    for text in ["".join(TEXT), *TEXT]:
        expected = every[kind].encode(text).astype("<u2").tobytes()
        assert encode([text]) == [expected]


def test_words_are_remembered_only_where_they_stand_alone(every):
    assert words_stand_alone(every["bpe"].model)
    assert not words_stand_alone(every["unigram"].model)


def test_a_piece_that_reaches_over_a_space_is_noticed(every):
    protocol = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    for piece in ("of▁the", "▁▁", "a\nb"):
        model = protocol.ModelProto.FromString(every["bpe"].model)
        model.pieces.add(piece=piece, score=-400)
        assert not words_stand_alone(model.SerializeToString())


def test_words_are_forgotten_when_there_are_too_many(every, monkeypatch):
    monkeypatch.setattr(words, "REMEMBERED", 3)
    monkeypatch.setattr(words, "BLOCK", 5)
    encode = make_encoder(every["bpe"], np.dtype("<u2"))
    texts = ["".join(TEXT), *TEXT, "", "x" * 200, "ab" * 40 + " " + "cd" * 40, ""]
    for _ in range(2):
        expected = [every["bpe"].encode(text).astype("<u2").tobytes() for text in texts]
        assert encode(texts) == expected


def test_a_word_is_encoded_once():
    asked = []

    def spell(new):
        asked.extend(new)
        return [[len(word)] * len(word) for word in new]

    table = WordTable(spell, np.dtype("<u2"))
    text = " the cat\nthe cat  the \n\n"
    expected = np.array(
        [4] * 4 + [4] * 4 + [1] + [3] * 3 + [4] * 4 + [1] + [4] * 4 + [1] * 3, "<u2"
    )
    assert table.encode([text.encode(), b"", b"the"]) == [
        expected.tobytes(),
        b"",
        np.array([3, 3, 3], "<u2").tobytes(),
    ]
    assert asked == [" the", " cat", "\n", "the", " "]
    long = "x" * (words.LONGEST + 1)
    for _ in range(2):
        table.encode([f"{long} the".encode()])
    assert asked[5:] == [long, long]
    assert table.known == 7
