"""A text that lies in a file, tokenized when the run begins."""

from __future__ import annotations

from pretrain.data.held_out import hold_out, text_tokenizer
from pretrain.data.jsonl import read_texts
from pretrain.tasks.text.config import TextData
from pretrain.tasks.text.data import Text


class TextFile:
    """The texts of a configuration, tokenized, a share of the documents held out.

    Args:
        config: says which texts, tokenizer and share.

    Attributes:
        tokenizer: of the model's tokens.
        train, test: the two sides.

    Raises:
        UserError: a file cannot be read or is malformed.
        ConfigError: no training document is left, or the vocabulary has no room.
    """

    def __init__(self, config: TextData) -> None:
        train, test = split(config)
        self.tokenizer = text_tokenizer(config, train)
        self.train = Text.encoded(train, self.tokenizer)
        self.test = Text.encoded(test, self.tokenizer)

    def __str__(self) -> str:
        sides = (("training", self.train), ("held out", self.test))
        return "; ".join(
            f"{name}: {len(side):,} documents, {len(side.sentences):,} sentences, "
            f"{side.tokens:,} tokens"
            for name, side in sides
        )


def split(config: TextData) -> tuple[list[str], list[str]]:
    """Training and held-out documents; errors: see :func:`pretrain.data.held_out.hold_out`."""
    return hold_out(
        config,
        lambda path: read_texts(path, config.document_gap, config.field_names["text"]),
        lambda document: document,
        "documents",
        "data.document_gap or data.test_fraction",
    )
