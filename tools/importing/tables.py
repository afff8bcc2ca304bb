"""Columns of lists of ids, through pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.errors import UserError

MASK = "attention_mask"
"""Column that says which ids are no padding, where there is one."""
BATCH = 1024
"""Rows that are read together."""


def package() -> Any:
    """pyarrow.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pyarrow
    except ImportError:
        raise UserError(
            "Arrow and Parquet need the package pyarrow, which is not installed; run: pip install "
            "'mifirst[corpora]'"
        ) from None
    return pyarrow


def columns_of(path: Path, schema: Any, field: str) -> list[str]:
    """The columns to read: ids, and their mask if there is one.

    Raises:
        UserError: there is no such column, or it holds no lists of whole numbers.
    """
    types = package().types
    if field not in schema.names:
        raise UserError(
            f"{path}: no column {field!r}, there are {', '.join(schema.names)}; name the one with "
            "the ids by --field"
        )
    kind = schema.field(field).type
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if not is_list or not types.is_integer(kind.value_type):
        raise UserError(
            f"{path}: column {field} is of type {kind}, expected lists of whole numbers; name "
            "another by --field, or tokenize text with tools.preprocess_data"
        )
    return [field, *([MASK] if MASK in schema.names else [])]


def rows_of(path: Path, batches: Iterator[Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ids and lengths of the rows of record batches of one or two columns; padding left out.

    Raises:
        UserError: an id is missing, or a mask does not fit.
    """
    from pyarrow import compute

    for batch in batches:
        column = batch.column(0)
        lengths = compute.fill_null(compute.list_value_length(column), 0)
        lengths = lengths.to_numpy(zero_copy_only=False).astype(np.int64)
        values = column.drop_null().flatten()
        if values.null_count:
            raise UserError(f"{path}: an id of column {batch.schema.names[0]} is missing (null)")
        ids = values.to_numpy(zero_copy_only=False)
        if batch.num_columns > 1:
            kept = batch.column(1).drop_null().flatten().to_numpy(zero_copy_only=False) != 0
            if len(kept) != len(ids):
                raise UserError(
                    f"{path}: column {MASK} has {len(kept):,} values for {len(ids):,} ids; leave "
                    "it out of the file"
                )
            before = np.concatenate([[0], np.cumsum(kept)])
            ends = np.cumsum(lengths)
            ids, lengths = ids[kept], before[ends] - before[ends - lengths]
        yield ids, lengths
