"""Parquet with a column of ids."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.errors import UserError
from tools.importing.source import Asked, Rows, Shard, size_of
from tools.importing.tables import BATCH, columns_of, package, rows_of


def read(path: Path, asked: Asked) -> list[Shard]:
    """A file; its rows are documents.

    Raises:
        UserError: it cannot be read, or has no such column.
    """
    size_of(path)
    with _opened(path) as file:
        columns = columns_of(path, file.schema_arrow, asked.field)
    return [Rows(path, partial(_rows, path, columns))]


def _opened(path: Path) -> Any:
    package()
    from pyarrow import ArrowException, parquet

    try:
        return parquet.ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: no Parquet, or damaged ({error}); copy it again") from None


def _rows(path: Path, columns: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    with _opened(path) as file:
        yield from rows_of(path, file.iter_batches(BATCH, columns=columns))
