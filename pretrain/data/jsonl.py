"""Texts and labelled texts from files: one JSON object a line, or plain text.

    {"text": "Slide and add puzzle game", "labels": ["game::puzzle", "role::program"]}

Other fields are ignored and blank lines skipped. Files are UTF-8 and read line by line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretrain.errors import UserError
from pretrain.files import written_whole

LABELLED = '{"text": "...", "labels": ["...", ...]}'
TEXT = '{"text": "..."}'


@dataclass(frozen=True)
class LabelledText:
    """A text and its labels, in the order of the file and each of them once."""

    text: str
    labels: tuple[str, ...]


def read_labelled(path: Path | str) -> list[LabelledText]:
    """All lines of a JSONL file with `text` and `labels`. A text may have no label."""
    path = Path(path)
    found = [
        LabelledText(_text(record, where, LABELLED), _labels(record, where))
        for where, record in _records(path, LABELLED)
    ]
    return _not_empty(found, path, LABELLED)


def read_texts(path: Path | str, gap: int = 1) -> list[str]:
    """The documents of a file.

    In plain text, `gap` or more blank lines part two documents: with 1 every paragraph is one, so
    that a play gives its speeches. In a file named `.jsonl` every line's `text` is one.
    """
    path = Path(path)
    if path.suffix == ".jsonl":
        texts = [_text(record, where, TEXT) for where, record in _records(path, TEXT)]
        return _not_empty(texts, path, TEXT)
    return _not_empty(list(_documents(path, gap)), path, "paragraphs of text")


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
    """Number, from 1, and content of each line, without its end."""
    offset = 0
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    at = offset + error.start
                    raise UserError(
                        f"{path}, line {number}: byte {at} of the file, "
                        f"0x{raw[error.start]:02x}, is not UTF-8; convert the file, for "
                        "instance with iconv -f LATIN1 -t UTF-8"
                    ) from error
                offset += len(raw)
                yield number, line.rstrip("\r\n")
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}; name a file that is there"
        ) from error


def _records(path: Path, expected: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in read_lines(path):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UserError(
                f"{where}: {_shown(line)} is no JSON ({error}); expected one object a line: "
                f"{expected}"
            ) from error
        if not isinstance(record, dict):
            raise UserError(f"{where}: found {_shown(record)}; expected an object: {expected}")
        yield where, record


def _field(record: dict[str, Any], name: str, where: str, expected: str) -> Any:
    if name not in record:
        found = ", ".join(map(str, record)) or "none"
        raise UserError(
            f"{where}: the field {name} is missing, found the fields: {found}; expected {expected}"
        )
    return record[name]


def _text(record: dict[str, Any], where: str, expected: str) -> str:
    text = _field(record, "text", where, expected)
    if not isinstance(text, str) or not text.strip():
        raise UserError(
            f"{where}: text is {_shown(text)}; expected a string that is not blank: {expected}; "
            "mend or remove the line"
        )
    return text


def _labels(record: dict[str, Any], where: str) -> tuple[str, ...]:
    labels = _field(record, "labels", where, LABELLED)
    if not isinstance(labels, list) or not all(isinstance(x, str) and x for x in labels):
        raise UserError(
            f"{where}: labels is {_shown(labels)}; expected a list of strings that are not "
            f"empty: {LABELLED}; write [] where there is no label"
        )
    return tuple(dict.fromkeys(labels))


def _documents(path: Path, gap: int) -> Iterator[str]:
    lines: list[str] = []
    blank: list[str] = []
    for _, line in read_lines(path):
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


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
