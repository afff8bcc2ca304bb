"""Train a tokenizer on text.

    python -m tools.train_tokenizer --kind words --input FILE --size 8192 --out words.json
    python -m tools.train_tokenizer --kind bpe --input A.txt B.jsonl --size 8192 --out bpe.model

Files that end in .txt are plain text; .jsonl, .ndjson and .json (one JSON object a line), .csv,
.tsv and .parquet hold a field "text", or --field; all but Parquet also as .gz, .zst, .bz2 and .xz.
The same input gives the same file. unigram and bpe are SentencePiece's, on one thread, and read the
first 10,000,000 lines.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pretrain.console import run_program
from pretrain.data.records import (
    Advance,
    RecordError,
    field_of,
    is_plain,
    plain_lines,
    records_of,
    refused,
    text_of,
)
from pretrain.data.tokenizers import (
    CharacterTokenizer,
    TextTokenizer,
    WordTokenizer,
    check_ending,
    save_tokenizer,
    train_pieces,
)
from pretrain.errors import UserError
from pretrain.files import json_text
from pretrain.paths import path_argument
from pretrain.progress import progress_bar

LISTS = {"characters": CharacterTokenizer, "words": WordTokenizer}
PIECES = ("unigram", "bpe")
NOTICE_BYTES = 2**20


def texts(paths: Sequence[Path], label: str, field: str = "text") -> Iterator[str]:
    """Each line of plain text with its end, each text of a record; with a bar that counts bytes.

    Raises:
        UserError: a file cannot be read, or a line is not what it must be.
    """
    total = sum(_bytes(path) for path in paths)
    with progress_bar(total, label, unit="byte", delay=2.0) as bar:
        for path in paths:
            yield from _texts_of(path, bar.update, field)


def train(kind: str, paths: Sequence[Path], size: int, field: str = "text") -> TextTokenizer:
    """A tokenizer of up to `size` ids (characters, words) or exactly as many (unigram, bpe).

    Raises:
        UserError: the input cannot be read, holds no text, or does not go with the size.
    """
    if not any(text.strip() for text in texts(paths, "looking for text", field)):
        raise UserError(f"{', '.join(map(str, paths))}: there is no text; name a file with some")
    if kind in PIECES:
        return train_pieces(_announced(paths, field), kind, size)
    counts: Counter[str] = Counter()
    for text in texts(paths, "counting", field):
        counts.update(LISTS[kind].split(text))
    try:
        return LISTS[kind].from_counts(counts, size)
    except ValueError as error:
        raise UserError(f"--size: {error}") from None


def _announced(paths: Sequence[Path], field: str) -> Iterator[str]:
    """Texts, and a word once they are read: SentencePiece itself shows nothing."""
    yield from texts(paths, "reading", field)
    if sum(_bytes(path) for path in paths) > NOTICE_BYTES:
        print("learning pieces; this shows no progress", file=sys.stderr)


def measure(tokenizer: TextTokenizer, paths: Sequence[Path], field: str = "text") -> dict[str, Any]:
    """Bytes per token, and the share of tokens that are `<unk>`, on the input."""
    total = tokens = unknown = 0
    for text in texts(paths, "measuring", field):
        ids = tokenizer.encode(text)
        total += len(text.encode())
        tokens += len(ids)
        unknown += int((ids == tokenizer.unknown_id).sum())
    return {
        "bytes": total,
        "tokens": tokens,
        "bytes_per_token": total / max(tokens, 1),
        "unknown_share": unknown / max(tokens, 1),
    }


def _bytes(path: Path) -> int:
    try:
        with path.open("rb"):  # a folder and a forbidden file show themselves here
            return path.stat().st_size
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); mend --input") from None


def _texts_of(path: Path, advance: Advance, field: str) -> Iterator[str]:
    if is_plain(path):
        yield from (line for _, line in plain_lines(path, advance))
        return
    for where, record in records_of(path, advance):
        try:
            yield text_of(field_of(record, field), field)
        except RecordError as error:
            raise refused(where, error) from None


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.train_tokenizer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kind", choices=[*LISTS, *PIECES], required=True, help="of tokenizer")
    parser.add_argument(
        "--input", type=path_argument, nargs="+", required=True, help="files of text"
    )
    parser.add_argument("--field", default="text", help="field or column with it (default: text)")
    parser.add_argument("--size", type=int, required=True, help="ids, special tokens included")
    parser.add_argument(
        "--out",
        type=path_argument,
        required=True,
        help=".json (characters, words), .model (others)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(argv)


def _text(report: dict[str, Any]) -> str:
    return (
        f"{report['out']}: {report['kind']}, {report['size']:,} ids, fingerprint "
        f"{report['fingerprint']}\non the input: {report['bytes']:,} bytes, {report['tokens']:,} "
        f"tokens, {report['bytes_per_token']:.3f} bytes per token, "
        f"{100 * report['unknown_share']:.3f} % unknown"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Train, save and measure. Returns the exit code."""
    options = _arguments(argv)
    try:
        check_ending(options.out, options.kind in PIECES)
        if options.out.exists():
            raise UserError(f"--out {options.out} is there already; name another, or remove it")
        tokenizer = train(options.kind, options.input, options.size, options.field)
        save_tokenizer(tokenizer, options.out)
        report = {
            "out": str(options.out),
            "kind": options.kind,
            "size": tokenizer.size,
            "fingerprint": tokenizer.fingerprint,
            **measure(tokenizer, options.input, options.field),
        }
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json_text(report) if options.json else _text(report))
    return 0


if __name__ == "__main__":
    run_program(main)
