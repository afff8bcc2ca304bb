"""Pieces of work: the documents that begin in one range of a file.

Units depend on the sources alone, not on how many processes there are, so that every number of
processes writes the same corpus, and what is done stays done when the work is interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pretrain.data import records
from pretrain.data.records import SEPARATORS
from tools.preprocessing.sources import Source, open_raw


@dataclass(frozen=True)
class Unit:
    """The documents that begin from `begin` on, before `end`.

    Args:
        number: its place among all units.
        source: the file.
        begin, end: bytes of the file; row groups for Parquet.
        first_row: number of rows before the unit; Parquet only.
        weight: bytes of the file, for progress.
        piece: bytes of the file that have a checksum together.
    """

    number: int
    source: Source
    begin: int
    end: int
    first_row: int
    weight: int
    piece: int


def plan_units(sources: Sequence[Source], size: int) -> list[Unit]:
    """All units, in the order of the corpus.

    Ranges of about `size` bytes; a compressed file is one unit, since it can be read only from its
    beginning, and so is a table of lines, in which a line break may stand between quotes.
    """
    ranges = ((source, *span) for source in sources for span in _spans(source, size))
    return [Unit(number, *span, size) for number, span in enumerate(ranges)]


def parquet_file(source: Source) -> Any:
    """The file, opened by pyarrow.

    Raises:
        UserError: pyarrow is missing, or it cannot read the file.
    """
    return records.parquet_file(source.path, open_raw(source.path))


def _spans(source: Source, size: int) -> Iterator[tuple[int, int, int, int]]:
    if source.format == "parquet":
        yield from _row_groups(source, size)
    elif source.compression or source.format in SEPARATORS:
        yield 0, source.size, 0, source.size
    else:
        for begin in range(0, source.size, size):
            end = min(begin + size, source.size)
            yield begin, end, 0, end - begin


def _row_groups(source: Source, size: int) -> Iterator[tuple[int, int, int, int]]:
    metadata = parquet_file(source).metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    whole = sum(group.total_byte_size for group in groups) or 1
    begin = first_row = rows = taken = 0
    for number, group in enumerate(groups, start=1):
        rows += group.num_rows
        taken += group.total_byte_size
        if taken >= size or number == len(groups):
            yield begin, number, first_row, taken * source.size // whole
            begin, first_row, taken = number, rows, 0
