"""A fitted table as a folder: safetensors shards and a manifest.

    manifest.json                     what was counted from what, sizes and checksums
    marginals.safetensors             rows, columns, pairs; keys of a table of positions
    shard-00000-of-00002.safetensors  rows, start, cols, counts of one rank

The folder is written beside its name and renamed once every rank has written its part and the
manifest stands, so a folder with the final name is whole. A table fitted by N ranks is loaded by
any number of ranks, and several tables of the same rows and columns are loaded as their sum.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pretrain.errors import UserError
from pretrain.files import checksum, json_text, open_to_umask
from pretrain.selection.table import kernels
from pretrain.selection.table.collectives import add_up, gather_numbers, together, world
from pretrain.selection.table.counts import (
    DEFAULT_BUDGET,
    Marginals,
    Pairs,
    ShardedCounts,
    empty_counts,
)
from pretrain.selection.table.manifest import (
    FORMAT,
    MANIFEST,
    MARGINALS,
    Json,
    Manifest,
    check_alike,
    check_content,
    check_marginals,
    read_manifest,
)
from pretrain.selection.table.positions import Content, PositionCounts, counts_of

if TYPE_CHECKING:
    import torch.distributed as dist


def fingerprint_of(content: Content) -> str:
    """Hash of all cells and marginals, the same on every rank and for any number of ranks."""
    counts = counts_of(content)
    start, cols, values = counts.table.cells()
    rows = np.repeat(counts.owned, np.diff(start))
    marginals = counts.marginals
    cells = add_up(kernels.hash_cells(rows, cols, values), counts.group)
    parts = [cells, marginals.rows, marginals.columns, marginals.pairs]
    if isinstance(content, PositionCounts):
        parts.append(content.keys)
    digest = hashlib.sha256(
        json.dumps([marginals.total, marginals.documents, asdict(counts.pairs)]).encode()
    )
    for part in parts:
        digest.update(np.ascontiguousarray(part, dtype=np.int64).tobytes())
    return digest.hexdigest()[:32]


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"selection table {path} could not be written: {reason}; free some space or choose "
            "another folder. What was there before is untouched."
        ) from error


def _shard_name(rank: int, ranks: int) -> str:
    return f"shard-{rank:05d}-of-{ranks:05d}.safetensors"


def save(
    content: Content,
    path: Path,
    made_from: Mapping[str, Any],
    state: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> str:
    """Write the table, each rank its rows; every rank of its group calls this alike.

    Args:
        content: the table.
        path: folder to make, on a file system that all ranks see.
        made_from: JSON values that say what was counted: corpus, tokenizer, estimator.
        state: JSON values that :attr:`Manifest.state` gives back.
        replace: take the place of a table that is there.

    Returns:
        The fingerprint.

    Raises:
        UserError: the folder is there already, or cannot be written; nothing is left behind.
    """
    counts = counts_of(content)
    rank, ranks = world(counts.group)
    group = counts.group
    partial = path.with_name(f".{path.name}.partial")
    with together(group, f"making {partial}"):
        if rank == 0:
            _make_room(path, partial, replace)
    try:
        with together(group, f"writing its rows to {path}"), _writing(path):
            start, cols, values = counts.table.cells()
            arrays = {"rows": counts.owned, "start": start, "cols": cols, "counts": values}
            own = _write(partial / _shard_name(rank, ranks), arrays)
        sizes = gather_numbers(np.frombuffer(own, dtype=np.uint8).astype(np.int64), group)
        fingerprint = fingerprint_of(content)
        with together(group, f"writing the manifest of {path}"), _writing(path):
            if rank == 0:
                shards = [json.loads(bytes(size.tolist())) for size in sizes]
                manifest = _describe(content, partial, shards, fingerprint, made_from, state or {})
                _write_text(partial / MANIFEST, json_text(manifest, indent=2) + "\n")
                _put_in_place(partial, path)
    except BaseException:
        if rank == 0:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    return fingerprint


def _make_room(path: Path, partial: Path, replace: bool) -> None:
    with _writing(path):
        if path.exists() and not replace:
            raise UserError(
                f"{path} is there already; choose another folder, or remove it if it is not needed"
            )
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)


def _put_in_place(partial: Path, path: Path) -> None:
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        os.replace(path, old)
    os.replace(partial, path)
    shutil.rmtree(old, ignore_errors=True)


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Write one file; returns its description as JSON."""
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    open_to_umask(path)
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return json.dumps(
        {"file": path.name, "bytes": path.stat().st_size, "sha256": checksum(path)}
    ).encode()


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _describe(
    content: Content,
    folder: Path,
    shards: list[Json],
    fingerprint: str,
    made_from: Mapping[str, Any],
    state: Mapping[str, Any],
) -> Json:
    counts = counts_of(content)
    positions = content if isinstance(content, PositionCounts) else None
    marginals = counts.marginals
    arrays = {
        "rows": marginals.rows,
        "columns": marginals.columns,
        "pairs": marginals.pairs,
    }
    if positions is not None:
        arrays["keys"] = positions.keys
    shared = json.loads(_write(folder / MARGINALS, arrays))
    return {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "made_from": dict(made_from),
        "state": dict(state),
        "pairs": asdict(counts.pairs),
        "layout": counts.layout,
        "rows": counts.rows,
        "rows_kept": int((counts.owners >= 0).sum()),
        "columns": counts.columns,
        "total": marginals.total,
        "documents": marginals.documents,
        "positions": None
        if positions is None
        else {"slots": positions.slots, "vocabulary": positions.vocabulary},
        "marginals": shared,
        "shards": shards,
    }


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read: {error}; fit the table again") from error


def load(
    paths: Path | Sequence[Path],
    group: dist.ProcessGroup | None = None,
    budget: int = DEFAULT_BUDGET,
) -> tuple[Content, Manifest]:
    """The table of a folder, or the sum of several, dealt out over the ranks of `group`.

    Args:
        paths: folders that every rank sees; several must have the same rows, columns and pairs.
        group: the ranks that will share the table; any number, whatever it was fitted by.
        budget: bytes that each rank has for its rows.

    Returns:
        The table and the manifest of the first folder.

    Raises:
        UserError: a file is missing, damaged or does not fit the others, or another rank failed.
        BudgetError: the table does not fit the budget.
    """
    folders = [paths] if isinstance(paths, Path) else list(paths)
    rank, ranks = world(group)
    with together(group, "reading a selection table"):
        manifests = [read_manifest(folder) for folder in folders]
        first = manifests[0]
        for other in manifests[1:]:
            check_alike(first, other)
        parts = [(m.path, part) for m in manifests for part in m.values["shards"]]
        # Each file is checked by one rank; the marginals, which all read, by all.
        for path, part in parts[rank::ranks]:
            check_content(path, part)
        for manifest in manifests:
            check_content(manifest.path, manifest.values["marginals"])
        shared = [_read(manifest.path / MARGINALS) for manifest in manifests]
        for manifest, arrays in zip(manifests, shared, strict=True):
            check_marginals(manifest, arrays)
        keys = [arrays.get("keys", np.zeros(0, np.int64)) for arrays in shared]
        if any(not np.array_equal(keys[0], other) for other in keys[1:]):
            raise UserError(f"{folders[0]} and the other tables have different features")
    counts = _empty(manifests, shared, group, budget)
    with together(group, "reading its rows of a selection table"):
        for path, part in parts:
            _add_rows(counts, path / part["file"])
        counts.table.settle()
    positions = first.values["positions"]
    if positions is None:
        return counts, first
    slots = tuple(tuple(slot) for slot in positions["slots"])
    vocabulary = positions["vocabulary"]
    counts.unit_width = vocabulary
    counts.row_groups = keys[0] // vocabulary ** max(len(slot) for slot in slots)
    return PositionCounts(counts, keys[0], slots, vocabulary), first


def _empty(
    manifests: Sequence[Manifest],
    shared: Sequence[Mapping[str, np.ndarray]],
    group: dist.ProcessGroup | None,
    budget: int,
) -> ShardedCounts:
    marginals = None
    for manifest, arrays in zip(manifests, shared, strict=True):
        values = manifest.values
        own = Marginals(
            arrays["rows"], arrays["columns"], values["total"], arrays["pairs"],
            values["documents"],
        )  # fmt: skip
        marginals = own if marginals is None else marginals.plus(own)
    assert marginals is not None
    values = manifests[0].values
    return empty_counts(
        marginals,
        Pairs(**values["pairs"]),
        group,
        budget,
        "top_k" if values["layout"] == "top_k" else "auto",
        values["rows_kept"] if values["layout"] == "top_k" else None,
    )


def _add_rows(counts: ShardedCounts, path: Path) -> None:
    """Add the rows of a shard that this rank holds."""
    arrays = _read(path)
    _check_rows(counts, path, arrays)
    lengths = np.diff(arrays["start"])
    local = counts.local[arrays["rows"]]
    here = local < counts.table.rows
    own_lengths = np.zeros(counts.table.rows, dtype=np.int64)
    own_lengths[local[here]] = lengths[here]
    # A shard's rows rise, and so do this rank's: the cells of the rows in both stand in order.
    chosen = np.repeat(here, lengths)
    start = np.concatenate([[0], np.cumsum(own_lengths)])
    counts.table.add_cells(start, arrays["cols"][chosen], arrays["counts"][chosen])


def _check_rows(counts: ShardedCounts, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Check that compiled loops, which check nothing, can take a shard."""
    kinds = {"rows": np.int64, "start": np.int64, "cols": np.int32, "counts": np.int64}
    right = arrays.keys() == kinds.keys() and all(
        array.dtype == kinds[name] and array.ndim == 1 for name, array in arrays.items()
    )
    if right:
        rows, start, cols, values = (arrays[name] for name in kinds)
        right = (
            len(start) == len(rows) + 1
            and start[0] == 0
            and start[-1] == len(cols) == len(values)
            and bool(np.all(np.diff(start) >= 0) and np.all(np.diff(rows) > 0))
            and (len(rows) == 0 or bool(0 <= rows[0] <= rows[-1] < counts.rows))
            and (len(cols) == 0 or bool(0 <= cols.min() <= cols.max() < counts.columns))
            and bool(np.all(values > 0))
        )
    if right:
        sums = np.add.reduceat(np.append(values, 0), start[:-1]) if len(rows) else values
        sums = np.where(np.diff(start) > 0, sums, 0)
        right = bool(np.all(sums <= counts.marginals.pairs[rows]))
    if not right:
        raise UserError(
            f"{path} holds no rows of this table: names, kinds or values are not those that are "
            "written; fit the table again"
        )
