"""Records of files of text, read in one way by every task and tool.

JSON lines (one object a line), CSV, TSV and Parquet hold records with fields; plain text holds
documents, parted by blank lines. Files are UTF-8, may be compressed, and are read a line at a time.
What cannot be used is refused with file and line.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from pretrain.data.formats import FORMATS, damage, format_of, unpacked
from pretrain.errors import UserError

SEPARATORS = {"csv": ",", "tsv": "\t"}


Advance = Callable[[int], object]


def _nothing(count: int) -> None:
    pass


class _Counted(io.FileIO):
    def __init__(self, path: Path, advance: Advance) -> None:
        super().__init__(path)
        self._advance = advance

    def readinto(self, buffer: Any) -> int | None:
        count = super().readinto(buffer)
        self._advance(count or 0)
        return count


class RecordError(Exception):
    """A record, or a line, that cannot be used; says why."""


def decoded(raw: bytes, first: bool) -> str:
    """A line's text, without the byte order mark that a file's first may begin with.

    Raises:
        RecordError: it is not UTF-8.
    """
    try:
        return raw.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(not_utf8(error)) from None


def not_utf8(error: UnicodeDecodeError) -> str:
    """What was found, and at which byte of the line, from 1."""
    return f"not UTF-8 (byte 0x{error.object[error.start]:02x} at {error.start + 1})"


def json_object(line: str) -> dict[str, Any]:
    """The object that a line of JSON holds.

    Raises:
        RecordError: it holds none, or is nested more deeply than Python reads.
    """
    try:
        record = _json(line)
    except RecursionError:
        raise RecordError("nested too deeply") from None
    except ValueError as error:
        raise RecordError(f"not JSON ({error})") from None
    if not isinstance(record, dict):
        raise RecordError(f"no object but {type(record).__name__}")
    return record


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        raise
    except ValueError:  # more digits than Python makes an int of: JSON all the same
        return json.loads(line, parse_int=float)


def field_of(record: dict[str, Any], name: str) -> Any:
    """A field's value.

    Raises:
        RecordError: it is missing.
    """
    if name not in record:
        raise RecordError(f"no field {name}, found the fields {', '.join(map(str, record)) or '-'}")
    return record[name]


def text_of(value: object, name: str) -> str:
    """A value that is a text.

    Raises:
        RecordError: it is none, or cannot be encoded.
    """
    if not isinstance(value, str):
        raise RecordError(f"{name} is no text but {type(value).__name__}")
    if half := half_surrogate(value):
        raise RecordError(f"{half} in {name}")
    return value


def half_surrogate(text: str) -> str | None:
    """The half of a surrogate pair that a text holds, in words: it has no UTF-8; None without."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"half of a surrogate pair (\\u{ord(text[error.start]):x})"
    return None


def files_of(path: Path) -> list[Path]:
    """The files that a path stands for: itself; those in a folder whose endings say a format; or
    those that match a pattern. By name, and each file once.

    Raises:
        UserError: there is none.
    """
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        found = [file for file in inside if _says_a_format(file)]
        expected = f"it holds no file that ends in {', '.join(FORMATS)}"
    elif path.exists() or not glob.has_magic(str(path)):
        return [path]
    else:
        names = sorted(glob.glob(str(path), recursive=True))
        found = [Path(name) for name in names if not os.path.isdir(name)]
        expected = "the pattern matches no file"
    if not found:
        raise UserError(f"{path}: {expected}; name a file that is there")
    return list({identity(str(file)): file for file in reversed(found)}.values())[::-1]


def identity(path: str) -> tuple[int, int]:
    """The same for all names of one file: links to it, links to its folder, hard links."""
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _says_a_format(path: Path) -> bool:
    try:
        format_of(path.name)
    except UserError:
        return False
    return not any(part.startswith(".") for part in path.parts[-1:])


def lines_of(
    path: Path, compression: str = "", advance: Advance = _nothing
) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line, with its end.

    Args:
        advance: is told how many bytes of the file were read.

    Raises:
        UserError: the file cannot be read, is damaged, or is not UTF-8; names file and line.
    """
    offset = 0
    try:
        with _Counted(path, advance) as raw, closing(unpacked(raw, compression)) as file:
            if compression and not os.path.getsize(path):
                raise EOFError("it has no bytes")
            for number, line in enumerate(file, start=1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{path}, line {number}: byte {offset + error.start} of the "
                        f"{'text' if compression else 'file'}, 0x{line[error.start]:02x}, is not "
                        "UTF-8; convert the file, for "
                        "instance with iconv -f LATIN1 -t UTF-8"
                    ) from None
                offset += len(line)
                yield number, text
    except damage() as error:
        raise UserError(
            f"{path}: damaged near byte {offset:,} of its text ({error}); copy it again"
        ) from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror or error}; name a file that is there"
        ) from None


def records_of(path: Path, advance: Advance = _nothing) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where, and what, each record of a file that has fields is; blank lines are passed over.

    Args:
        advance: is told how many bytes of the file were read.

    Raises:
        UserError: the file or a record cannot be read; names the line.
    """
    form, compression = format_of(str(path))
    if form == "parquet":
        yield from _rows(path)
        advance(os.path.getsize(path))
    elif form in SEPARATORS:
        lines = (line for _, line in lines_of(path, compression, advance))
        for number, row in table_rows(str(path), lines, SEPARATORS[form]):
            where = f"{path}, line {number}"
            if isinstance(row, RecordError):
                raise refused(where, row)
            yield where, row
    else:
        for number, line in lines_of(path, compression, advance):
            if line.strip():
                where = f"{path}, line {number}"
                try:
                    yield where, json_object(line)
                except RecordError as error:
                    raise refused(where, error, line) from None


def refused(where: str, error: RecordError, line: str = "") -> UserError:
    """What is said of a bad record."""
    hint = ""
    if line.lstrip().startswith("[") or line.strip() == "{":
        hint = "; a JSON file must hold one object a line, as jq -c '.[]' writes an array"
    shown = f"{shortened(line)} is " if line else ""
    return UserError(f"{where}: {shown}{error}{hint or '; mend or remove the line'}")


def shortened(value: Any) -> str:
    """A value as it stands in a message."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        text = type(value).__name__
    text = text.strip()
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def is_plain(path: Path) -> bool:
    """Whether a file holds plain text.

    Raises:
        UserError: its ending says no format.
    """
    return format_of(str(path))[0] == "text"


def plain_lines(path: Path, advance: Advance = _nothing) -> Iterator[tuple[int, str]]:
    """Number and text of each line of plain text; errors: :func:`lines_of`."""
    return lines_of(path, format_of(str(path))[1], advance)


def table_rows(
    path: str, lines: Iterable[str], separator: str, longest: int = 2**31 - 1
) -> Iterator[tuple[int, dict[str, Any] | RecordError]]:
    """Rows of a table whose first line names the columns: the line, from 1, that a row ends on, and
    its values by column, or why it cannot be used. Values are texts, as they stand there: 0245 is
    no number. They may hold line breaks between quotes; blank lines are passed over.

    Args:
        path: of the table, for messages.
        lines: with their ends.
        longest: characters of a value.

    Raises:
        UserError: there are no names of columns, two are the same, or a quote has no end.
    """
    # A text is longer than the 128 KiB that csv takes by itself.
    csv.field_size_limit(longest)
    rows = csv.reader(lines, delimiter=separator, strict=True)
    columns: list[str] = []
    while True:
        first = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            if "unexpected end" in str(error) or "field larger" in str(error) or not columns:
                raise UserError(
                    f"{path}, line {first}: a value begins there that has no end within "
                    f"{longest:,} characters or before the file's ({error}); close its quote, and "
                    "write a quote inside of quotes twice"
                ) from None
            yield rows.line_num, RecordError(f"no row of a table ({error})")
            continue
        if not columns:
            columns = row
            if twice := sorted({name for name in columns if columns.count(name) > 1}):
                raise UserError(f"{path}: two columns are named {twice[0]!r}; rename one")
        elif len(row) == len(columns):
            yield rows.line_num, dict(zip(columns, row, strict=True))
        elif row:
            yield (
                rows.line_num,
                RecordError(
                    f"has {len(row)} fields, another number of fields than the first line, "
                    f"{len(columns)}"
                ),
            )
    if not columns:
        raise UserError(f"{path}: the table is empty; its first line must name the columns")


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    pyarrow = _pyarrow(path)
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(1000):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except pyarrow.ArrowException as error:
        raise UserError(f"{path}: no Parquet file that pyarrow reads ({error})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}, behind row {number}: {not_utf8(error)}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


def _pyarrow(path: Path | str) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            f"{path}: a Parquet file needs the package pyarrow, which is not installed; "
            "run: pip install 'mifirst[corpora]'"
        ) from None
    return pyarrow


def parquet_file(path: str, file: Any) -> Any:
    """A Parquet file, opened by pyarrow.

    Args:
        path: its name, for messages.
        file: its name or its bytes.

    Raises:
        UserError: pyarrow is missing, or cannot read it.
    """
    pyarrow = _pyarrow(path)
    try:
        return pyarrow.parquet.ParquetFile(file)
    except pyarrow.ArrowException as error:
        raise UserError(f"{path}: no Parquet file that pyarrow reads ({error})") from None
