"""Arrow's files and streams (Hugging Face's `datasets` saves streams) with a column of ids."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.errors import UserError
from tools.importing.source import Asked, Rows, Shard, size_of
from tools.importing.tables import columns_of, package, rows_of

MAGIC = b"ARROW1"
"""With which a file begins, and a stream does not."""


def read(path: Path, asked: Asked) -> list[Shard]:
    """A file; its rows are documents.

    Raises:
        UserError: it cannot be read, or has no such column.
    """
    size_of(path)
    schema, _ = _opened(path)
    return [Rows(path, partial(_rows, path, columns_of(path, schema, asked.field)))]


def _opened(path: Path) -> tuple[Any, Iterator[Any]]:
    """The schema, and the record batches as they lie in the mapped file."""
    pyarrow = package()
    try:
        source = pyarrow.memory_map(str(path))
        if source.read(len(MAGIC)) == MAGIC:
            file = pyarrow.ipc.open_file(source)
            return file.schema, (file.get_batch(i) for i in range(file.num_record_batches))
        source.seek(0)
        stream = pyarrow.ipc.open_stream(source)
        return stream.schema, iter(stream)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: no Arrow, or damaged ({error}); copy it again") from None


def _rows(path: Path, columns: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    _, batches = _opened(path)
    yield from rows_of(path, (batch.select(columns) for batch in batches))
