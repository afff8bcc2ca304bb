"""From shards of another trainer's to a corpus of ours: one pass over the ids, then the index."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pretrain.data.indexed import (
    IndexedCorpus,
    IndexLayout,
    bin_path,
    idx_path,
    manifest_path,
    token_type,
    write_manifest,
)
from pretrain.data.tokenizers import TextTokenizer
from pretrain.errors import UserError
from pretrain.files import checksum
from pretrain.progress import progress_bar
from tools.importing import bounds as documents
from tools.importing.source import PIECE, Bounds, Flat, Rows, Shard

ALIKE: dict[str, np.dtype] = {"uint32": np.dtype("<i4"), "uint64": np.dtype("<i8")}
"""Types that Megatron's index has no code for; below 2^31 and 2^63 the bytes are those of these."""
DIRECT = ("uint8", "int8", "int16", "int32", "int64", "uint16")
"""Types with a code."""
SAMPLED = 1000
"""Documents whose last tokens are compared."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    Attributes:
        format: of the files, by name.
        output: prefix of what is written.
        tokenizer: of the ids, and its file.
        end: id of the end token; None where documents have none.
        packed: rows were cut from a stream: documents are found by the end token.
        document_tokens: cut the stream into documents of so many tokens; None: do not.
        copy: write the ids anew, also where they could stay.
        overwrite: replace what is there.
        progress: show it.
    """

    format: str
    output: Path
    tokenizer: TextTokenizer
    tokenizer_file: Path
    end: int | None
    packed: bool = False
    document_tokens: int | None = None
    copy: bool = False
    overwrite: bool = False
    progress: bool = True


def linked_type(shards: Sequence[Shard]) -> np.dtype | None:
    """The type as which the ids can be read where they lie; None if they have to be written anew:
    several files, documents apart, ids that do not begin at a multiple of their size or have their
    bytes in another order."""
    if len(shards) != 1 or not isinstance(shards[0], Flat):
        return None
    dtype = shards[0].dtype
    if shards[0].begin % dtype.itemsize or dtype.newbyteorder("<") != dtype:
        return None
    if dtype.name in DIRECT:
        return dtype
    return ALIKE.get(dtype.name)


class Intake:
    """Looks at ids as they pass, and writes them if asked to.

    Args:
        limit: ids are below it, or are `end`.
        end: id of the end token.
        out: where to write; None: nowhere.
        dtype: as which to write.
        name: of the tokenizer, for people.
    """

    def __init__(
        self, limit: int, end: int | None, out: BinaryIO | None, dtype: np.dtype, name: str
    ) -> None:
        self.limit, self.end, self.out, self.dtype, self.name = limit, end, out, dtype, name
        self.tokens = 0
        self._after: list[np.ndarray] = []

    def take(self, path: Path, ids: np.ndarray) -> None:
        """The next ids of a file.

        Raises:
            UserError: one of them is not the tokenizer's.
        """
        if not len(ids):
            return
        if ids.min() < 0 or ids.max() >= self.limit:
            wrong = (ids < 0) | (ids >= self.limit)
            if self.end is not None:
                wrong &= ids != self.end
            if wrong.any():
                raise UserError(
                    f"{path}: holds id {int(ids[wrong.argmax()])}, but {self.name} has the ids "
                    f"below {self.limit:,}; name the tokenizer that the ids are of, or another "
                    "--dtype if that was wrong"
                )
        if self.end is not None:
            self._after.append(np.flatnonzero(ids == self.end) + (self.tokens + 1))
        if self.out is not None:
            self.out.write(np.ascontiguousarray(ids, self.dtype).data)
        self.tokens += len(ids)

    @property
    def after(self) -> np.ndarray:
        """[n] the token that follows each end token."""
        return np.concatenate([np.empty(0, np.int64), *self._after])


def import_corpus(shards: Sequence[Shard], wanted: Wanted) -> dict[str, Any]:
    """Make the corpus. Returns its manifest.

    Raises:
        UserError: the ids are not the tokenizer's, documents cannot be told, or something is there
            that would be lost.
    """
    dtype = None if wanted.copy else linked_type(shards)
    source = shards[0]
    zero_copy = dtype is not None
    in_place = zero_copy and _same(bin_path(wanted.output), source.path)
    _check_room(wanted, in_place, shards)
    dtype = token_type(wanted.tokenizer.size) if dtype is None else dtype
    with beside(wanted.output) as work:
        with (bin_path(work / "c") if not zero_copy else Path(os.devnull)).open("wb") as file:
            intake = Intake(
                _limit(wanted), wanted.end, None if zero_copy else file, dtype,
                f"the tokenizer {wanted.tokenizer_file}",
            )  # fmt: skip
            given, digests = _taken(shards, intake, wanted.progress)
        told, notes = _told(given, intake, wanted)
        head = source.begin if zero_copy and isinstance(source, Flat) else 0
        write_index(work / "c", told, dtype, head)
        if zero_copy:
            bin_path(work / "c").symlink_to(source.path.absolute())
        corpus = IndexedCorpus(work / "c", check=True)
        notes += _same_last(corpus) if wanted.end is None else []
        manifest = _manifest(corpus, wanted, digests, zero_copy, notes)
        write_manifest(manifest_path(work / "c"), manifest)
        _place(work / "c", wanted, in_place, kept=[path.absolute() for path in source.beside])
    return manifest


def _limit(wanted: Wanted) -> int:
    """Ids of another trainer's are text, or the file's own special tokens; of ours, any."""
    tokenizer = wanted.tokenizer
    ours = wanted.end is not None and wanted.end >= tokenizer.text_ids
    return tokenizer.size if ours else tokenizer.text_ids


def _taken(
    shards: Sequence[Shard], intake: Intake, progress: bool
) -> tuple[list[Bounds | None], dict[str, str]]:
    """Pass all ids. Returns the documents as the files tell them, and each file's checksum."""
    given: list[Bounds | None] = []
    digests: dict[str, str] = {}
    files = [[shard.path] if isinstance(shard, Flat) else _files(shard) for shard in shards]
    total = sum(path.stat().st_size for paths in files for path in paths)
    with progress_bar(total, "reading", "B", progress, delay=2.0) as bar:
        for shard, paths in zip(shards, files, strict=True):
            if isinstance(shard, Flat):
                digest = hashlib.sha256()
                for ids in _pieces(shard, digest):
                    intake.take(shard.path, ids)
                    bar.update(ids.nbytes)
                digests[str(shard.path.absolute())] = digest.hexdigest()
                given.append(shard.bounds)
            else:
                lengths = []
                for ids, counts in shard.read():
                    intake.take(shard.path, ids)
                    lengths.append(counts)
                digests |= {str(path.absolute()): checksum(path) for path in paths}
                given.append(Bounds.of_documents(np.concatenate([np.empty(0, int), *lengths])))
                bar.update(sum(path.stat().st_size for path in paths))
            if isinstance(shard, Flat):
                digests |= {str(path.absolute()): checksum(path) for path in shard.beside}
    return given, digests


def _files(shard: Rows) -> list[Path]:
    return list(shard.beside) or [shard.path]


def _pieces(flat: Flat, digest: Any) -> Iterator[np.ndarray]:
    with flat.path.open("rb") as file:
        digest.update(file.read(flat.begin))
        while content := file.read(PIECE):
            digest.update(content)
            yield np.frombuffer(content, flat.dtype)


def _told(
    given: Sequence[Bounds | None], intake: Intake, wanted: Wanted
) -> tuple[tuple[int, Bounds], list[str]]:
    """Tokens before the first document, and the documents; and what should be known of them."""
    after, notes = intake.after, []
    known = [bounds for bounds in given if bounds is not None]
    if wanted.document_tokens is not None:
        told = documents.cut(intake.tokens, wanted.document_tokens)
    elif wanted.packed or not known:
        if wanted.end is None:
            raise UserError(
                "--end-token none: where documents end is told by an end token alone here; give "
                "its id, or cut what has none by --document-tokens"
            )
        if not len(after):
            raise UserError(
                f"--end-token {wanted.end}: it does not occur; give the one that ends documents, "
                "or cut what has none by --document-tokens"
            )
        told = documents.found(after, intake.tokens)
        if after[-1] != intake.tokens:
            notes.append("the last document has no end token: its last token is taken for it")
    elif len(known) < len(given):
        raise UserError(
            f"documents of {len(known)} of the {len(given)} files are known, those of the others "
            "are not; add what is missing beside them, or give --packed"
        )
    else:
        told = documents.joined(known)
    told = documents.without_empty(told)
    if not len(told.lengths):
        raise UserError("the files hold no token; name some that do")
    if not _ended(wanted):
        return (0, told), notes
    if known and not wanted.packed:
        wrong = documents.not_ended(told, after)
        if len(wrong):
            raise UserError(
                f"--end-token {wanted.end}: {len(wrong):,} of {len(told.documents) - 1:,} "
                f"documents do not end with it, the first of them document {wrong[0]}; give "
                "--end-token none where documents have no end of their own, or --packed where "
                "they were cut"
            )
    return documents.without_blank(told), notes


def _ended(wanted: Wanted) -> bool:
    return wanted.end is not None and wanted.document_tokens is None


def write_index(prefix: Path, told: tuple[int, Bounds], dtype: np.dtype, head: int = 0) -> None:
    """Write `PREFIX.idx`.

    Args:
        told: tokens before the first document, and the documents.
        dtype: of the ids.
        head: bytes of the `.bin` before its first token.

    Raises:
        UserError: a document is longer than an index can say.
    """
    begin, bounds = told
    if bounds.lengths.max() >= 2**31:
        raise UserError(
            f"a document has {bounds.lengths.max():,} tokens, and an index has room for 2^31 - 1; "
            "give the end token that parts documents, or cut them by --document-tokens"
        )
    layout = IndexLayout(dtype, len(bounds.lengths), len(bounds.documents) - 1)
    ends = np.cumsum(bounds.lengths)
    with idx_path(prefix).open("wb") as file:
        file.write(layout.header())
        file.write(bounds.lengths.astype("<i4").data)
        file.write((head + (begin + ends - bounds.lengths) * dtype.itemsize).astype("<i8").data)
        file.write(bounds.documents.astype("<i8").data)


def _same_last(corpus: IndexedCorpus) -> list[str]:
    """A word on documents that all end with one token."""
    step = -(-corpus.documents // SAMPLED)
    ends = corpus.token_begins(corpus.boundaries[1::step].astype(np.int64))
    last = np.unique(corpus.ids[ends - 1])
    if len(last) > 1 or corpus.documents < 2:
        return []
    return [f"documents end with id {last[0]}; if that is their end token, give it"]


def _manifest(
    corpus: IndexedCorpus,
    wanted: Wanted,
    digests: dict[str, str],
    zero_copy: bool,
    notes: list[str],
) -> dict[str, Any]:
    tokenizer = wanted.tokenizer
    return {
        "documents": corpus.documents,
        "sequences": corpus.sequences,
        "tokens": corpus.tokens,
        "text_bytes": None,
        "dtype": corpus.layout.dtype.name,
        "sentences": corpus.sequences > corpus.documents,
        "end_of_document": _ended(wanted),
        "tokenizer": {
            "file": str(wanted.tokenizer_file),
            "kind": type(tokenizer).__name__,
            "size": tokenizer.size,
            "fingerprint": tokenizer.fingerprint,
        },
        "imported": {
            "format": wanted.format,
            "zero_copy": zero_copy,
            "end_token": wanted.end,
            "packed": wanted.packed,
            "document_tokens": wanted.document_tokens,
            "notes": notes,
        },
        "checksum": "SHA-256",
        "sources": [
            {"path": path, "bytes": Path(path).stat().st_size, "checksum": digest}
            for path, digest in digests.items()
        ],
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("mifirst", "numpy")},
        },
    }


def _check_room(wanted: Wanted, in_place: bool, shards: Sequence[Shard]) -> None:
    """Refuse what would lose something.

    Raises:
        UserError: the output is there already, or is a source.
    """
    output = wanted.output
    files = [path for shard in shards for path in (shard.path, *shard.beside)]
    for target in (bin_path(output), idx_path(output), manifest_path(output)):
        if not os.path.lexists(target):
            continue
        if any(_same(target, path) for path in files):
            if in_place:
                continue
            raise UserError(f"{target} is a source; name another --output")
        if not wanted.overwrite:
            raise UserError(
                f"{target} is there already; name another --output, or give --overwrite to replace "
                "it"
            )


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and os.path.samefile(one, other)


@contextmanager
def beside(output: Path) -> Iterator[Path]:
    """A folder of this process beside the output, gone at the end."""
    work = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        work.mkdir(parents=True)
        yield work
    except OSError as error:
        raise UserError(
            f"--output {output}: cannot be written ({error.filename}: {error.strerror})"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _place(made: Path, wanted: Wanted, in_place: bool, kept: Sequence[Path]) -> None:
    """Give the files their names, the manifest last. What is `kept` is not replaced.

    Raises:
        UserError: an index of the source's own would have to be another.
    """
    output = wanted.output
    index, own = idx_path(made), idx_path(output)
    if in_place and own.absolute() in kept:
        if index.read_bytes() != own.read_bytes():
            raise UserError(
                f"{own}: its documents have to be told otherwise (some are empty, or have an end "
                "token alone), and it stays as it is; name another --output"
            )
    else:
        os.replace(index, own)
    if not in_place:
        os.replace(bin_path(made), bin_path(output))
    os.replace(manifest_path(made), manifest_path(output))
