"""What the fields of records are, told from their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pretrain.data.tokenizers import split_words
from pretrain.data.tokenizers.records import Field, Kind, is_whole, text_of
from pretrain.errors import ConfigError
from pretrain.tasks.records.config import FieldSettings

REPEATED = 10
"""Texts that stand so often on average are categories."""
MOST_CATEGORIES = 1000
LONGEST_STRING = 32
LONGEST_TEXT = 64
"""Words that a text is cut to, if nobody says how many."""


def infer(
    name: str, values: Sequence[Any], settings: FieldSettings | None, optional: bool
) -> Field:
    """A field, from the values that are there; those of another type than the first, as a fraction
    where that is a whole number, are left to be refused with their line.

    Args:
        settings: what the configuration says of it.
        optional: whether a value may be missing.

    Raises:
        ConfigError: it can be of no kind.
    """
    settings = settings or FieldSettings()
    quoted = not values or isinstance(values[0], str)
    texts = []
    for value in values:
        if isinstance(value, str) == quoted:
            texts.append(_text(value))
    whole = quoted or type(values[0]) is int
    kind = settings.kind or _kind(texts, quoted, whole)
    if kind in ("string", "text") and not quoted:
        raise ConfigError(
            f"data.field_settings.{name}.kind {kind}: its values are no texts, such as {texts[0]}; "
            "use number or category, or write texts"
        )
    if kind == "category" and not whole and len(set(texts)) > MOST_CATEGORIES:
        raise ConfigError(
            f"data.field_settings: {name} has {len(set(texts)):,} distinct values such as "
            f"{texts[0]}, too many for categories; round them, or write them as texts"
        )
    signed = kind == "number" and any(text.startswith("-") for text in texts)
    return Field(
        name=name,
        kind=kind,
        width=1 if kind == "category" else settings.width or _width(kind, texts),
        signed=signed,
        quoted=quoted,
        optional=optional,
        values=_values(kind, texts, settings.values),
    )


def _kind(texts: Sequence[str], quoted: bool, whole: bool) -> Kind:
    if not texts or not whole:
        return "category"
    if not quoted or all(map(is_whole, texts)):
        return "number"
    distinct = len(set(texts))
    if distinct <= MOST_CATEGORIES and distinct * REPEATED <= len(texts):
        return "category"
    return "string" if max(map(len, texts)) <= LONGEST_STRING else "text"


def _width(kind: Kind, texts: Sequence[str]) -> int:
    if not texts:
        return 1
    if kind == "text":
        return min(LONGEST_TEXT, max(len(split_words(text)) for text in texts) or 1)
    if kind == "number":
        texts = [text.lstrip("-") for text in texts if is_whole(text)]
    return max(map(len, texts), default=1) or 1


def _values(kind: Kind, texts: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    if kind == "string":
        return tuple(sorted(set("".join((*texts, *more)))))
    return tuple(sorted({*texts, *more})) if kind == "category" else ()


def _text(value: Any) -> str:
    try:
        return text_of(value)
    except ValueError:
        return ""  # refused with its line
