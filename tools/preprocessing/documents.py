"""The documents of a unit, and the lines that hold none."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from pretrain.data.formats import damage, unpacked
from pretrain.data.records import (
    SEPARATORS,
    RecordError,
    decoded,
    field_of,
    json_object,
    not_utf8,
    table_rows,
    text_of,
)
from pretrain.errors import UserError
from tools.preprocessing.checksums import Hashed
from tools.preprocessing.chunks import Unit, parquet_file
from tools.preprocessing.sources import open_raw

SHOWN = 120
"""Characters of a bad line that are kept."""
ROWS = 1000
"""Rows of Parquet that are read together."""


@dataclass(frozen=True)
class Bad:
    """A line, or a document of plain text, that cannot be used.

    Args:
        line: counted from 0, in the unit; rows for Parquet.
        why: what is wrong with it.
        start: its first characters.
    """

    line: int
    why: str
    start: str


@dataclass(frozen=True)
class Rules:
    """How documents are found.

    Args:
        field: of a JSON object, or column, that holds the text.
        gap: blank lines that part two documents of plain text.
        longest: bytes of a line, or of a document of plain text, that is not bad.
    """

    field: str
    gap: int
    longest: int


class Reader:
    """Reads a unit once: iterate, then look at the attributes.

    Attributes:
        lines: of the unit; rows for Parquet.
        digests: SHA-256 of the pieces of the source in the unit's range, or, for Parquet, of the
            whole source in its first unit.
        position: bytes of the source that have been read.

    Raises:
        UserError: the file cannot be read.
    """

    def __init__(self, unit: Unit, rules: Rules) -> None:
        self.unit, self.rules = unit, rules
        self.lines = 0
        self.digests: list[str] = []
        self._hashed: Hashed | None = None
        self._share = 0.0

    @property
    def position(self) -> int:
        """Bytes of the unit's weight that have been read."""
        if self._hashed is None or self.unit.source.format == "parquet":
            return int(self._share * self.unit.weight)
        return min(max(self._hashed.position - self.unit.begin, 0), self.unit.weight)

    def __iter__(self) -> Iterator[str | Bad]:
        source = self.unit.source
        try:
            yield from self._rows() if source.format == "parquet" else self._bytes()
        except damage() as error:
            raise UserError(
                f"{source.path}: damaged near byte {self.position:,} ({error}); copy it again"
            ) from error
        except OSError as error:
            raise UserError(f"{source.path}: cannot be read ({error.strerror or error})") from error

    def _bytes(self) -> Iterator[str | Bad]:
        unit = self.unit
        # One byte more tells whether a line begins at the unit's first.
        position = max(unit.begin - 1, 0)
        file = open_raw(unit.source.path)
        file.seek(position)
        with closing(Hashed(file, position, unit.begin, unit.end, unit.piece)) as self._hashed:
            end = None if unit.source.compression else unit.end
            lines = Lines(
                unpacked(self._hashed, unit.source.compression), position, self.rules.longest
            )
            if position < unit.begin:
                next(lines)
            if unit.source.format in SEPARATORS:
                yield from self._table(lines, SEPARATORS[unit.source.format])
            elif unit.source.format == "jsonl":
                yield from self._json_lines(lines, end)
            else:
                yield from self._paragraphs(lines, end)
            self.digests = self._hashed.digests()

    def _table(self, lines: Lines, separator: str) -> Iterator[str | Bad]:
        field, path = self.rules.field, self.unit.source.path
        rows = table_rows(path, self._decoded(lines), separator, self.rules.longest)
        for number, row in rows:
            if isinstance(row, RecordError):
                yield Bad(number - 1, str(row), "")
            elif field not in row:
                raise UserError(_no_column(path, field, row))
            else:
                yield _whole(row[field], number - 1)

    def _decoded(self, lines: Lines) -> Iterator[str]:
        """Lines of a table, bytes that are not UTF-8 as half surrogates."""
        for offset, raw in lines:
            self.lines += 1
            if raw is None:
                raise UserError(
                    f"{self.unit.source.path}, line {self.lines}: "
                    f"{_too_long('line', self.rules.longest)}; raise it, or close the quote"
                )
            yield raw.decode("utf-8" if offset else "utf-8-sig", "surrogateescape")

    def _json_lines(self, lines: Lines, end: int | None) -> Iterator[str | Bad]:
        for offset, raw in lines:
            if end is not None and offset >= end:
                return
            number = self.lines
            self.lines += 1
            if raw is None:
                yield Bad(number, _too_long("line", self.rules.longest), lines.start)
            elif not raw.isspace():
                yield self._text(raw, number, offset == 0)

    def _text(self, raw: bytes, number: int, first: bool) -> str | Bad:
        field, line = self.rules.field, _start(raw)
        try:
            line = decoded(raw, first)
            return text_of(field_of(json_object(line), field), field)
        except RecordError as error:
            return Bad(number, str(error), line[:SHOWN])

    def _paragraphs(self, lines: Lines, end: int | None) -> Iterator[str | Bad]:
        """A document that no `gap` blank lines before it, all of them in the unit, set apart
        belongs to an earlier unit; and so the last documents here may lie behind the end."""
        gap = self.rules.gap
        open_document: _Document | None = None
        inside = self.unit.begin == 0
        blank, behind = gap if inside else 0, 0  # blank lines in a row, and those behind the end
        for number, (offset, raw) in enumerate(lines):
            past = end is not None and offset >= end
            self.lines += not past
            if raw is not None and raw.isspace():
                blank += 1
                behind += past
                if open_document is not None:
                    open_document.take(raw)
                    if blank == gap:
                        yield open_document.finished()
                        open_document = None
                if behind == gap:
                    return
                continue
            if blank >= gap:
                inside = True
                open_document = open_document or _Document(number, self.rules.longest)
            elif not inside and past:
                return
            blank = behind = 0
            if open_document is not None:
                content = raw if raw is None or offset else raw.removeprefix(codecs.BOM_UTF8)
                open_document.take(content, lines.start)
        if open_document is not None:
            yield open_document.finished()

    def _rows(self) -> Iterator[str | Bad]:
        unit, field = self.unit, self.rules.field
        file = parquet_file(unit.source)
        if field not in file.schema_arrow.names:
            raise UserError(_no_column(unit.source.path, field, file.schema_arrow.names))
        groups = range(unit.begin, unit.end)
        total = sum(file.metadata.row_group(group).num_rows for group in groups)
        for batch in file.iter_batches(ROWS, row_groups=list(groups), columns=[field]):
            for scalar in batch.column(0):
                number = self.lines
                self.lines += 1
                self._share = self.lines / total
                try:
                    value = scalar.as_py()
                except UnicodeDecodeError as error:
                    yield Bad(number, not_utf8(error), "")
                    continue
                if isinstance(value, str) and len(value) > self.rules.longest:
                    yield Bad(number, _too_long("row", self.rules.longest), value[:SHOWN])
                else:
                    yield _checked(value, field, number, str(value)[:SHOWN])
        if unit.begin == 0:
            source = unit.source
            with closing(Hashed(open_raw(source.path), 0, 0, source.size, unit.piece)) as hashed:
                self.digests = hashed.digests()


class _Document:
    """Lines of a document of plain text, until they are too long together."""

    def __init__(self, first: int, longest: int) -> None:
        self._first, self._longest = first, longest
        self._lines: list[bytes] = []
        self._size = 0
        self._start = ""

    def take(self, raw: bytes | None, start: str = "") -> None:
        """One more line; None for one that is too long, of which `start` is known."""
        self._start = self._start or (start if raw is None else _start(raw))
        self._size += self._longest + 1 if raw is None else len(raw)
        if raw is None or self._size > self._longest:
            self._lines.clear()
        else:
            self._lines.append(raw)

    def finished(self) -> str | Bad:
        """The text, without blank lines at its end."""
        if self._size > self._longest:
            return Bad(self._first, _too_long("document", self._longest), self._start)
        text: list[str] = []
        for number, line in enumerate(self._lines):
            try:
                text.append(line.rstrip(b"\r\n").decode())
            except UnicodeDecodeError as error:
                return Bad(self._first + number, not_utf8(error), _start(line))
        while text and not text[-1].strip():
            text.pop()
        return "\n".join(text)


class Lines:
    """Offset and content of each line; None for the content of one that is too long.

    Args:
        file: at `offset`.
        longest: bytes of a line that is not too long.
    """

    def __init__(self, file: io.BufferedReader, offset: int, longest: int) -> None:
        self._file, self._offset, self._longest = file, offset, longest
        self.start = ""
        """First characters of the latest line that was too long."""

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> tuple[int, bytes | None]:
        offset = self._offset
        raw = self._file.readline(self._longest + 1)
        if not raw:
            raise StopIteration
        self._offset += len(raw)
        if len(raw) <= self._longest or raw.endswith(b"\n"):
            return offset, raw
        self.start = _start(raw)
        while not raw.endswith(b"\n"):
            raw = self._file.readline(2**20)
            if not raw:
                break
            self._offset += len(raw)
        return offset, None


def _checked(value: object, field: str, number: int, start: str) -> str | Bad:
    try:
        return text_of(value, field)
    except RecordError as error:
        return Bad(number, str(error), start)


def _whole(text: str, number: int) -> str | Bad:
    """A value of a table; bad where bytes of it are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raw = text.encode(errors="surrogateescape")
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            return Bad(number, not_utf8(error), _start(raw))
    return text


def _no_column(path: str, field: str, columns: Iterable[str]) -> str:
    return f"{path}: no column {field}, found {', '.join(columns)}; name one with --field"


def _too_long(what: str, longest: int) -> str:
    return f"a {what} of more than {longest / 2**20:g} MiB (--longest)"


def _start(raw: bytes) -> str:
    return raw[: 4 * SHOWN].decode(errors="replace")[:SHOWN].rstrip("\r\n")
