"""Packed text: what a step reads, what is selected, and what depends on what."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.config import load_config
from pretrain.data.batch import Sampler
from pretrain.data.tokenizers import CharacterTokenizer, WordTokenizer, split_words
from pretrain.errors import ConfigError
from pretrain.ragged import Documents, Examples, stream_of
from pretrain.selection.estimators.pointwise import Pointwise, Scorer
from pretrain.selection.orders.transforms import Insert, Keep
from pretrain.selection.selector import Selection
from pretrain.selection.table.counts import Pairs, count_pairs, window
from pretrain.tasks.text.batches import PackedBatches
from pretrain.tasks.text.data import Text, lay_out
from pretrain.tasks.text.selection import Chooser, transform_of
from pretrain.tasks.text.text_file import TextFile, split

RNG = np.random.default_rng(0)
SENTENCES = Documents.of([RNG.integers(0, 30, n) for n in RNG.integers(0, 12, 200)])
FIRSTS = np.array([0, 1, 7, 40, 41, 90, 200])
TEXT = Text(SENTENCES, FIRSTS)
OPENING, CLOSING, END, BLANK = 30, 31, 32, 33
SIZE, LENGTH, WINDOW = 34, 16, 16
STRATEGIES = ("ntp", "max_mi", "min_mi", "random", "first", "blank")


def transform(strategy: str) -> Insert | Keep:
    if strategy == "ntp":
        return Keep()
    return Insert(OPENING, CLOSING, BLANK if strategy == "blank" else None)


def chooser(strategy: str, features: str = "sentence") -> Chooser:
    scorer, reach = None, None
    if strategy in ("max_mi", "min_mi"):
        before = features == "before"
        reach = WINDOW if before else None
        counted = TEXT.documents if before else SENTENCES
        pairs = window(WINDOW, "left") if before else Pairs()
        counts = count_pairs(stream_of(Examples(counted), 100), SIZE, SIZE, pairs)
        scorer = Scorer(counts, Pointwise(minimum_count=1))
    return Chooser(Selection(strategy), scorer, reach, seed=4)


CHOOSERS = {
    **{strategy: chooser(strategy) for strategy in STRATEGIES},
    "max_mi before": chooser("max_mi", "before"),
    "min_mi before": chooser("min_mi", "before"),
}


def source(name: str, rank: int = 0, ranks: int = 1, batch: int = 4) -> PackedBatches:
    how = transform(name.split()[0])
    sampler = Sampler(TEXT.packed(how, LENGTH).sequences, batch, 1)
    return PackedBatches(TEXT, how, END, sampler, lambda _: CHOOSERS[name], rank, ranks, LENGTH)


def whole_stream(name: str) -> list[int]:
    """All sentences one by one, each chosen for by itself."""
    how, choose, stream = transform(name.split()[0]), CHOOSERS[name], []
    for number in range(len(SENTENCES)):
        if number in FIRSTS:
            stream.append(END)
        tokens = SENTENCES.between(number, number + 1).tokens.tolist()
        if tokens and isinstance(how, Insert):
            place = int(choose(TEXT, np.array([number]))[0])
            content = BLANK if how.blank is not None else tokens[place]
            stream += [OPENING, content, CLOSING]
        stream += tokens
    return stream


@pytest.mark.parametrize("name", CHOOSERS)
def test_sequences_are_the_stream_cut_into_pieces(name):
    stream, reader, seen = whole_stream(name), source(name), set()
    assert reader.sampler.examples == (len(stream) - 1) // LENGTH
    for step in range(reader.sampler.examples // 4):
        tokens, labels, mask, starts, _ = reader.read(step, CHOOSERS[name])
        assert tokens.shape == labels.shape == mask.shape == starts.shape == (4, LENGTH)
        assert mask.all()
        assert starts.tolist() == (tokens == END).tolist()
        for row, index in enumerate(reader.sampler.indices(step, 0, 1)):
            begin = index * LENGTH
            assert tokens[row].tolist() == stream[begin : begin + LENGTH]
            assert labels[row].tolist() == stream[begin + 1 : begin + LENGTH + 1]
            seen.add(index)
    assert len(seen) == reader.sampler.examples // 4 * 4


@pytest.mark.parametrize("name", ["max_mi before", "random", "ntp"])
@pytest.mark.parametrize("step", [0, 3])
def test_readers_share_a_step(name, step):
    whole = source(name).read(step, CHOOSERS[name])
    parts = [source(name, rank, 2).read(step, CHOOSERS[name]) for rank in range(2)]
    for of_whole, *of_parts in zip(*(rows[:4] for rows in (whole, *parts)), strict=True):
        assert np.concatenate(of_parts).tolist() == of_whole.tolist()


def test_a_text_too_short_for_one_sequence_has_none():
    for sentences in ([[1, 2]], []):
        short = Text(Documents.of(sentences), np.array([0, len(sentences)]))
        assert short.packed(transform("first"), 16).sequences == 0


@given(
    st.lists(st.lists(st.integers(0, 29), max_size=8), min_size=1, max_size=8),
    st.lists(st.lists(st.integers(0, 29), max_size=8), max_size=4),
    st.sampled_from(sorted(CHOOSERS)),
    st.integers(0, 3),
)
@settings(max_examples=150)
def test_a_choice_knows_nothing_of_later_sentences_other_documents_or_the_batch(
    sentences, later, name, before
):
    choose = CHOOSERS[name]
    text = Text(Documents.of(sentences), np.array([0, len(sentences)]))
    numbers = np.arange(len(sentences))
    chosen = choose(text, numbers)
    lengths = text.sentences.lengths
    assert np.all((chosen == -1) == (lengths == 0))
    assert np.all(chosen < np.maximum(lengths, 1))
    # Documents follow, and sentences of the same document.
    longer = Documents.of([*sentences, *later])
    for firsts in ([0, len(sentences), len(longer)], [0, len(longer)]):
        assert choose(Text(longer, np.array(firsts)), numbers).tolist() == chosen.tolist()
    alone = [int(choose(text, np.array([number]))[0]) for number in numbers]
    assert alone == chosen.tolist()
    if not name.startswith("random"):  # whose choice is by the place in the text
        prefixed = Documents.of([[1, 2]] * before + sentences)
        behind = Text(prefixed, np.array([0, before, len(prefixed)]))
        assert choose(behind, numbers + before).tolist() == chosen.tolist()


def test_random_choices_are_spread_over_the_sentence_and_differ_by_seed():
    same = Text(Documents.of([list(range(5))] * 4000), np.array([0, 4000]))
    first, second = (
        Chooser(Selection("random"), seed=seed)(same, np.arange(4000)) for seed in (0, 1)
    )
    for chosen in (first, second):
        assert min(Counter(chosen.tolist()).values()) > 700
    assert 600 < (first == second).sum() < 1000


def test_what_is_selected_is_what_the_others_tell_the_most_about():
    # 0 with 1 always together; 5 everywhere. 9 stands alone, 7 is the rarest.
    sentences = [[0, 1, 5], [5, 0, 1], [5, 3], [5, 4], [9], [5, 7, 5]] * 3 + [[8, 5]] * 9
    text = Text(Documents.of(sentences), np.array([0, len(sentences)]))
    counts = count_pairs(stream_of(Examples(text.sentences), 100), 10, 10, Pairs())
    for strategy, expected in (("max_mi", [1, 2]), ("min_mi", [2, 0])):
        choose = Chooser(Selection(strategy), Scorer(counts, Pointwise(minimum_count=3)))
        assert choose(text, np.arange(2)).tolist() == expected
    # No pair is seen often enough: by rarity. A sentence of one token has no other choice.
    choose = Chooser(Selection("max_mi"), Scorer(counts, Pointwise(minimum_count=100)))
    assert choose(text, np.array([4, 5])).tolist() == [0, 1]


def test_context_is_what_stands_before_in_the_same_document():
    found = TEXT.before(np.array([0, 1, 6, 40]), WINDOW)
    offsets = SENTENCES.offsets
    assert found.lengths[[0, 1, 3]].tolist() == [0, 0, 0]
    tokens = SENTENCES.tokens[offsets[1] : offsets[6]][-WINDOW:]
    assert found.between(2, 3).tokens.tolist() == tokens.tolist()


DOCUMENT = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.sampled_from(
            ["Hé. ", "<plan> x </plan>", "</plan>", "<end>", "I am. ", "\n\n", "👩\u200d🚀 "]
        )
    ).map("".join),
)  # fmt: skip


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(st.lists(DOCUMENT, min_size=1, max_size=4))
@settings(max_examples=60)
def test_restoring_gives_the_text_back(strategy, documents):
    words = sorted({word for document in documents for word in split_words(document)})
    letters = sorted({letter for document in documents for letter in document})
    for tokenizer in (WordTokenizer(words), CharacterTokenizer(letters)):
        text = Text.encoded(documents, tokenizer)
        how = transform_of(strategy, tokenizer)
        scorer = None
        if strategy in ("max_mi", "min_mi"):
            size = tokenizer.size
            counts = count_pairs(stream_of(Examples(text.sentences), 99), size, size, Pairs())
            if counts.marginals.total == 0:
                continue  # no sentence of two tokens
            scorer = Scorer(counts, Pointwise(minimum_count=1))
        numbers = np.arange(len(text.sentences))
        chosen = Chooser(Selection(strategy), scorer)(text, numbers)
        end = tokenizer.special("<end>")
        planned = lay_out(text, numbers, chosen, how, end)
        restored = how.restore(planned.tokens)
        assert restored[restored != end].tolist() == text.sentences.tokens.tolist()
        if strategy != "ntp":
            some = text.sentences.lengths > 0
            assert (planned.tokens == tokenizer.special("<plan>")).sum() == some.sum()
        if isinstance(tokenizer, CharacterTokenizer):
            assert tokenizer.decode(restored) == "".join(documents)


def data_config(tmp_path, content: str, **data):
    path = tmp_path / "t.txt"
    path.write_text(content)
    return load_config(None, {"data": {"task": "text", "path": path, **data}}).data


def test_equal_documents_lie_on_one_side(tmp_path):
    content = "\n\n".join(f"Paragraph {n % 20}. It ends." for n in range(60))
    config = data_config(tmp_path, content, test_fraction=0.3)
    train, test = split(config)
    assert len(train) + len(test) == 60
    assert len(set(test)) == 6
    assert not set(train) & set(test)
    assert split(config) == (train, test)


def test_held_out_texts_of_their_own_are_not_trained_on(tmp_path):
    held_out = tmp_path / "h.txt"
    held_out.write_text("B.")
    train, test = split(data_config(tmp_path, "A.\n\nB.", test_path=held_out))
    assert (train, test) == (["A."], ["B."])
    with pytest.raises(ConfigError, match="all 1 documents are held out"):
        split(data_config(tmp_path, "B.", test_path=held_out))


def test_words_are_those_of_the_training_documents(tmp_path):
    held_out = tmp_path / "h.txt"
    held_out.write_text("new words")
    corpus = TextFile(data_config(tmp_path, "old words. Old.", test_path=held_out, vocabulary=20))
    assert corpus.tokenizer.decode(corpus.test.sentences.tokens, specials=True) == "<unk> words"
    assert "training: 1 documents, 2 sentences, 5 tokens" in str(corpus)


def test_a_choice_by_a_table_needs_the_table():
    with pytest.raises(ValueError, match="strategy max_mi needs a scorer"):
        Chooser(Selection("max_mi"))(TEXT, np.arange(3))
