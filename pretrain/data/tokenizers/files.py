"""Tokenizers as files: JSON of ours, SentencePiece's `.model`, Hugging Face's `tokenizer.json`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pretrain.data.tokenizers.base import TextTokenizer
from pretrain.data.tokenizers.hugging_face import HuggingFaceTokenizer
from pretrain.data.tokenizers.pieces import SentencePieceTokenizer
from pretrain.data.tokenizers.records import RecordTokenizer
from pretrain.data.tokenizers.vocabulary import (
    FORMAT,
    CharacterTokenizer,
    ListTokenizer,
    WordTokenizer,
)
from pretrain.errors import UserError
from pretrain.files import written_whole

KINDS: dict[str, type[ListTokenizer]] = {
    kind.kind: kind for kind in (CharacterTokenizer, WordTokenizer)
}
MODEL, JSON = "tokenizer.model", "tokenizer.json"


def load_tokenizer(path: Path, any_digits: bool = False) -> TextTokenizer:
    """The tokenizer of a file, or of a folder that holds one.

    A name that ends in .model is SentencePiece's; any other is JSON, ours or Hugging Face's.

    Args:
        any_digits: take one whose tokens join digits, too: of a corpus that is tokenized already.

    Raises:
        UserError: there is none, or it cannot be used; the message names the file.
    """
    path = _file(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        if path.suffix == ".model":
            return SentencePieceTokenizer(content, any_digits)
        return _from_json(path, content, any_digits)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def save_tokenizer(tokenizer: TextTokenizer, path: Path) -> None:
    """Write a tokenizer's file, whole or not at all.

    Raises:
        UserError: the name's ending belongs to another kind, or it cannot be written.
    """
    check_ending(path, ending_of(tokenizer) == ".model")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as beside, beside.open("wb") as file:
            file.write(tokenizer.content())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def ending_of(tokenizer: TextTokenizer) -> str:
    """What the name of its file ends in."""
    return ".model" if isinstance(tokenizer, SentencePieceTokenizer) else ".json"


def check_ending(path: Path, pieces: bool) -> None:
    """Refuse a name that would be read as another kind.

    Raises:
        UserError: it does not end in .model (SentencePiece) or .json (others).
    """
    expected = ".model" if pieces else ".json"
    if path.suffix != expected:
        raise UserError(
            f"{path}: the name must end in {expected}, by which the kind is known; "
            f"use {path.with_suffix(expected)}"
        )


def _file(path: Path) -> Path:
    """The file that a path means."""
    if not path.exists():
        raise UserError(
            f"{path}: there is no such file; make one with tools.train_tokenizer, or mend the path"
        )
    if not path.is_dir():
        return path
    there = [path / name for name in (JSON, MODEL) if (path / name).is_file()]
    if len(there) == 1:
        return there[0]
    if there:
        raise UserError(f"{path}: holds both {JSON} and {MODEL}; name the file that you mean")
    raise UserError(f"{path}: the folder holds neither {JSON} nor {MODEL}; name a tokenizer's file")


def _from_json(path: Path, content: bytes, any_digits: bool) -> TextTokenizer:
    try:
        text = content.decode()
        values = json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"not JSON ({error}); expected JSON of characters, words or Hugging Face, and "
            "SentencePiece's model by the ending .model"
        ) from None
    if isinstance(values, dict) and isinstance(values.get("model"), dict):
        return HuggingFaceTokenizer(text, any_digits)
    return _from_list(values)


def _from_list(values: Any) -> TextTokenizer:
    kind = values.get("kind") if isinstance(values, dict) else None
    known = (*KINDS, RecordTokenizer.kind)
    if not isinstance(kind, str) or kind not in known:
        found = f"kind {kind!r}" if kind is not None else "JSON without a kind"
        raise ValueError(
            f"{found}; expected kind {' or '.join(known)}, or Hugging Face's tokenizer.json"
        )
    if values.get("format") != FORMAT:
        raise ValueError(
            f"format {values.get('format')!r}; this version reads {FORMAT}: train it again"
        )
    tokens = values.get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise ValueError("tokens is no list of strings; train it again")
    return RecordTokenizer.of(values) if kind == RecordTokenizer.kind else KINDS[kind](tokens)
