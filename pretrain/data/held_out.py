"""Which texts of a corpus are held out, and the tokenizer that the other ones make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import numpy as np

from pretrain.config.data import ExampleFiles, TextFiles
from pretrain.data.tokenizers import Tokenizer, WordTokenizer, load_tokenizer, split_words
from pretrain.errors import ConfigError

Item = TypeVar("Item")


def hold_out(
    config: ExampleFiles,
    read: Callable[[Path], list[Item]],
    text_of: Callable[[Item], str],
    noun: str,
    lower: str,
) -> tuple[list[Item], list[Item]]:
    """Training and held-out items of `data.path`, or those of `data.test_path` held out.

    Which items are held out depends on `data.split_seed` and the distinct texts of the file. An
    item of `data.path` whose text is held out, too, is not trained on.

    Args:
        config: says which files and share.
        read: all items of a file.
        text_of: an item's text; items of equal texts lie on one side.
        noun: what the items are, for people.
        lower: fields that hold out less when they are lowered.

    Raises:
        UserError: a file cannot be read or is malformed.
        ConfigError: nothing is left to train on.
    """
    assert config.path is not None
    items = read(config.path)
    if config.test_path is not None:
        test = read(config.test_path)
        held_out = {text_of(item) for item in test}
    else:
        distinct = list(dict.fromkeys(map(text_of, items)))
        order = np.random.default_rng(config.split_seed).permutation(len(distinct))
        count = max(1, round(config.test_fraction * len(distinct)))
        held_out = {distinct[index] for index in order[:count]}
        test = [item for item in items if text_of(item) in held_out]
    train = [item for item in items if text_of(item) not in held_out]
    if not train:
        raise ConfigError(
            f"data.path {config.path}: all {len(items)} {noun} are held out, none is left to train "
            f"on; give a file with more {noun}, or lower {lower}"
        )
    return train, test


def text_tokenizer(config: TextFiles, train: Iterable[str]) -> Tokenizer:
    """The one of `data.tokenizer`, or the most frequent words of the training texts.

    Raises:
        UserError: the file cannot be read or is malformed.
        ConfigError: `data.vocabulary` has no room for words.
    """
    if config.tokenizer is not None:
        return load_tokenizer(config.tokenizer)
    words = Counter(word for text in train for word in split_words(text))
    try:
        return WordTokenizer.from_counts(words, config.vocabulary)
    except ValueError as error:
        raise ConfigError(f"data.vocabulary: {error}") from error
