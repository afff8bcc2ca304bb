"""Texts and labelled texts from files: records with fields, or plain text.

    {"text": "Slide and add puzzle game", "labels": ["game::puzzle", "role::program"]}

The two fields may have other names. Others are ignored and blank lines skipped.
:mod:`pretrain.data.records` reads the files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretrain.data.records import (
    RecordError,
    field_of,
    files_of,
    is_plain,
    lines_of,
    plain_lines,
    records_of,
    shortened,
    text_of,
)
from pretrain.errors import UserError
from pretrain.files import written_whole

NAMES = {"text": "text", "labels": "labels"}
"""The names of the fields that are read."""


@dataclass(frozen=True)
class LabelledText:
    """A text and its labels, in the order of the file and each of them once."""

    text: str
    labels: tuple[str, ...]


def read_labelled(path: Path | str, names: Mapping[str, str] | None = None) -> list[LabelledText]:
    """All records with `text` and `labels` of a file, a folder or a pattern. A text may have no
    label; a label that is one string is a set of one.

    Args:
        names: of the fields, where they are not `text` and `labels`.

    Raises:
        UserError: a file cannot be read or is malformed, or there is no record.
    """
    path, names = Path(path), {**NAMES, **(names or {})}
    expected = f'{{"{names["text"]}": "...", "{names["labels"]}": ["...", ...]}}'
    found = [
        LabelledText(
            _text(record, where, names["text"], expected),
            _labels(record, where, names["labels"], expected),
        )
        for file in files_of(path)
        for where, record in records_of(_with_fields(file, expected))
    ]
    return _not_empty(found, path, expected)


def read_texts(path: Path | str, gap: int = 1, field: str = NAMES["text"]) -> list[str]:
    """The documents of a file, of a folder, or of files that match a pattern.

    In plain text (.txt), `gap` or more blank lines part two documents: with 1 every paragraph is
    one, so that a play gives its speeches. In other formats every record's `field` is one.

    Raises:
        UserError: a file cannot be read or is malformed, or there is no text.
    """
    path = Path(path)
    expected = f'{{"{field}": "..."}}'
    texts: list[str] = []
    for file in files_of(path):
        if is_plain(file):
            texts += _documents(file, gap)
        else:
            texts += [_text(record, where, field, expected) for where, record in records_of(file)]
    return _not_empty(texts, path, f"{expected} a line, or paragraphs in a .txt file")


def _with_fields(path: Path, expected: str) -> Path:
    if is_plain(path):
        raise UserError(f"{path}: plain text has no labels; expected {expected} in a .jsonl file")
    return path


def write_jsonl(path: Path | str, records: Iterable[Mapping[str, Any]]) -> int:
    """Write one object a line, the whole file or nothing. Returns the number of lines."""
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        for record in records:
            count += 1
            yield json.dumps(dict(record), ensure_ascii=False, allow_nan=False) + "\n"

    write_whole(path, lines())
    return count


def write_whole(path: Path | str, parts: Iterable[str]) -> None:
    """Write a UTF-8 file beside `path` and rename it, so that no half of one is ever there."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            written_whole(path) as beside,
            beside.open("w", encoding="utf-8", newline="\n") as file,
        ):
            file.writelines(parts)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}; name a file in a folder that can be "
            "written to"
        ) from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number, from 1, and content of each line of a file that is not compressed, without its end;
    errors: :func:`pretrain.data.records.lines_of`."""
    return ((number, line.rstrip("\r\n")) for number, line in lines_of(path))


def _value(record: dict[str, Any], name: str, where: str, expected: str) -> Any:
    try:
        return field_of(record, name)
    except RecordError as error:
        raise UserError(
            f"{where}: {error}; expected {expected}, or other names with data.fields"
        ) from None


def _text(record: dict[str, Any], where: str, name: str, expected: str) -> str:
    value = _value(record, name, where, expected)
    try:
        text = text_of(value, name)
    except RecordError as error:
        raise UserError(
            f"{where}: {error} ({shortened(value)}); expected {expected}; mend or remove the line"
        ) from None
    if not text.strip():
        raise UserError(
            f"{where}: {name} is {shortened(text)}; expected a string that is not blank: "
            f"{expected}; mend or remove the line"
        )
    return text


def _labels(record: dict[str, Any], where: str, name: str, expected: str) -> tuple[str, ...]:
    value = _value(record, name, where, expected)
    labels = [value] if isinstance(value, str) else value
    if not isinstance(labels, list) or not all(isinstance(x, str) and x for x in labels):
        raise UserError(
            f"{where}: {name} is {shortened(value)}; expected a list of strings that are not "
            f"empty, or one string: {expected}; write [] where there is no label"
        )
    try:
        return tuple(dict.fromkeys(text_of(label, "a label") for label in labels))
    except RecordError as error:
        raise UserError(f"{where}: {error}; mend or remove the line") from None


def _documents(path: Path, gap: int) -> Iterator[str]:
    lines: list[str] = []
    blank: list[str] = []
    for _, raw in plain_lines(path):
        line = raw.rstrip("\r\n")
        if not line.strip():
            blank.append(line)
            continue
        if lines and len(blank) >= gap:
            yield "\n".join(lines)
            lines = []
        elif lines:
            lines += blank
        lines.append(line)
        blank = []
    if lines:
        yield "\n".join(lines)


def _not_empty(found: list[Any], path: Path, expected: str) -> list[Any]:
    if not found:
        raise UserError(f"{path} is empty; expected {expected}")
    return found
