"""Texts with sets of labels as sequences."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.config import load_config
from pretrain.data.jsonl import LabelledText
from pretrain.data.tokenizers import CharacterTokenizer, LabelTokenizer, save_tokenizer
from pretrain.errors import ConfigError, UserError
from pretrain.ragged import Documents
from pretrain.selection.orders.labels import natural_order
from pretrain.tasks.multilabel.data import Multilabel, split

TEXTS = [
    ("a game of chess", ["game", "board"]),
    ("a game of chess", ["game"]),
    ("puzzle game", ["puzzle", "game"]),
    ("a C library", []),
    ("chess library", ["board", "lib"]),
    ("perl library", ["lib"]),
    ("naïve 👩\u200d🚀 e\u0301 text", ["game"]),
    ("board game", ["board", "game"]),
]


def write(path: Path, texts) -> Path:
    lines = [json.dumps({"text": text, "labels": labels}) for text, labels in texts]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def make_config(path: Path, length: int = 24, **data):
    data = {"task": "multilabel", "path": path, "minimum_documents": 1, **data}
    return load_config(None, {"model": {"sequence_length": length}, "data": data})


@pytest.mark.parametrize("seed", range(8))
def test_equal_texts_lie_on_one_side(tmp_path, seed):
    path = write(tmp_path / "t.jsonl", TEXTS)
    config = make_config(path, split_seed=seed, test_fraction=0.4).data
    train, _, test = split(config)
    assert len(train) + len(test) == len(TEXTS)
    assert not {x.text for x in train} & {x.text for x in test}
    assert len({x.text for x in test}) == round(0.4 * 7)  # of distinct texts
    assert split(config) == (train, [], test)


def test_a_held_out_file_is_held_out_and_not_trained_on(tmp_path):
    path = write(tmp_path / "t.jsonl", TEXTS)
    test_path = write(tmp_path / "h.jsonl", [("puzzle game", ["new"]), ("other", ["lib", "new"])])
    train, _, test = split(make_config(path, test_path=test_path).data)
    assert test == [LabelledText("puzzle game", ("new",)), LabelledText("other", ("lib", "new"))]
    assert [x.text for x in train] == [text for text, _ in TEXTS if text != "puzzle game"]
    task = Multilabel(make_config(path, test_path=test_path))
    # A label without training text is no part of the task, and that is told.
    assert task.label_names == ("board", "game", "lib")
    assert task.test.target.lengths.tolist() == [0, 1]
    assert task.coverage == pytest.approx(1 / 3)
    assert "33.3 % of the held-out texts' labels" in str(task)


def test_rare_labels_are_left_out_by_distinct_training_texts(tmp_path):
    path = write(tmp_path / "t.jsonl", TEXTS)
    test_path = write(tmp_path / "h.jsonl", [("other", ["lib"])])
    # game: 4 distinct texts of 5; board: 3; lib: 2; puzzle: 1.
    counts = {1: 4, 2: 3, 3: 2, 4: 1}
    for minimum, kept in counts.items():
        config = make_config(path, test_path=test_path, minimum_documents=minimum)
        task = Multilabel(config)
        assert len(task.label_names) == kept
        assert task.labels_left_out == 4 - kept
        assert len(task.train) == len(TEXTS)  # texts without labels are kept
    with pytest.raises(ConfigError, match=r"minimum_documents 5: no label .* has 4; lower it"):
        Multilabel(make_config(path, test_path=test_path, minimum_documents=5))


def test_labels_are_tokens_that_no_text_is_encoded_to(tmp_path):
    text = CharacterTokenizer([*"game:,<pl", "n"])
    tokenizer = LabelTokenizer(text, ["game", "game, <end>"])
    ids = tokenizer.encode("game, <end> 👩")
    assert ids.max() < text.size == tokenizer.size - 2
    shown = [*tokenizer.encode("ma"), text.size, text.size + 1, text.special("<end>")]
    assert tokenizer.decode(shown) == "ma game, game, <end>"
    assert tokenizer.decode(shown, specials=True) == "ma game, game, <end> <end>"
    assert tokenizer.decode([tokenizer.size]) == "?"
    assert tokenizer.fingerprint != LabelTokenizer(text, ["game", "other"]).fingerprint
    path = tmp_path / "c.json"
    save_tokenizer(text, path)
    task = Multilabel(make_config(write(tmp_path / "t.jsonl", TEXTS), 40, tokenizer=path))
    assert task.tokenizer.text.fingerprint == text.fingerprint
    assert task.first_label == text.size


def test_only_labels_and_the_end_count(tmp_path):
    config = make_config(write(tmp_path / "t.jsonl", TEXTS), 14)
    task = Multilabel(config)
    assert (task.longest, task.text_tokens) == (2, 11)
    tokens, labels, mask = task.sequences(task.train.source, task.train.target, 14)
    assert tokens.shape == labels.shape == mask.shape == (len(task.train), 14)
    assert (tokens[:, 1:] == labels[:, :-1]).all()
    for row, counted in enumerate(mask.astype(bool)):
        expected = task.train.target.between(row, row + 1).tokens + task.first_label
        assert labels[row][counted].tolist() == [*expected, task.tokenizer.special("<end>")]
        before = tokens[row][: np.flatnonzero(counted)[0] + 1]
        assert before[-1] == task.tokenizer.special("<plan>")
        assert before[:-1].tolist() == task.train.source.between(row, row + 1).tokens.tolist()
        assert set(labels[row][len(before) + len(expected) :]) <= {task.tokenizer.pad_id}


NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)


@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
                  st.lists(NAME, max_size=4)).filter(lambda pair: pair[0].strip() != ""),
        min_size=3,
        max_size=8,
        unique_by=lambda pair: pair[0],
    ).filter(lambda texts: all(labels for _, labels in texts))
)  # fmt: skip
def test_any_text_and_any_labels_come_back(tmp_path_factory, texts):
    path = write(tmp_path_factory.mktemp("any") / "t.jsonl", texts)
    task = Multilabel(make_config(path, 16))
    _, labels, mask = task.sequences(task.test.source, task.test.target, 16)
    _, _, held_out = split(make_config(path, 16).data)
    for row, example in enumerate(held_out):
        written = labels[row][mask[row] > 0][:-1] - task.first_label
        names = [task.label_names[number] for number in written]
        assert names == sorted(set(example.labels) & set(task.label_names))


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=6),
    st.lists(st.integers(0, 5), max_size=8),
)
def test_documents_are_taken_in_any_order(documents, indices):
    chosen = [index % len(documents) for index in indices]
    found = Documents.of(documents).take(np.array(chosen, dtype=np.int64))
    assert [found.between(d, d + 1).tokens.tolist() for d in range(len(found))] == [
        documents[index] for index in chosen
    ]


@given(st.lists(st.lists(st.integers(-1, 9), max_size=6), max_size=5))
def test_what_a_model_wrote_is_restored_whatever_it_is(sets):
    """Repeated labels, and tokens that are no labels, stay as they are counted."""
    restored = natural_order(Documents.of(sets))
    for number, given_set in enumerate(sets):
        own = restored.between(number, number + 1).tokens.tolist()
        assert own == sorted(given_set)
        assert Counter(own) == Counter(given_set)


def test_what_does_not_fit_or_cannot_be_read_is_refused(tmp_path):
    path = write(tmp_path / "t.jsonl", TEXTS)
    with pytest.raises(ConfigError, match=r"sequence_length 9 leaves 6 tokens .* 2 labels.* to 11"):
        Multilabel(make_config(path, 9))
    assert Multilabel(make_config(path, 11)).text_tokens == 8
    with pytest.raises(ConfigError, match=r"data.vocabulary: size 3 has no room"):
        Multilabel(make_config(path, vocabulary=3))
    with pytest.raises(ConfigError, match=r"all 1 texts are held out, none is left"):
        Multilabel(make_config(write(tmp_path / "one.jsonl", TEXTS[:1])))
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "a", "labels": []}\n{"text": "b", "labels": 7}\n')
    with pytest.raises(UserError, match=r"bad.jsonl, line 2: labels is '7'; expected a list"):
        Multilabel(make_config(bad))
    with pytest.raises(UserError, match=r"gone.jsonl cannot be read: No such file"):
        Multilabel(make_config(tmp_path / "gone.jsonl"))
