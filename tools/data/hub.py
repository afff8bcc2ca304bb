"""Texts of a data set of the Hugging Face hub, or of a local folder of data files, as JSON lines.

    python -m tools.data.hub --dataset Salesforce/wikitext --name wikitext-103-raw-v1 \\
        --begin '^ = [^=].* = $' --out wikitext.jsonl
    python -m tools.data.hub --dataset Salesforce/wikitext --name wikitext-103-raw-v1 \\
        --begin '^ = [^=].* = $' --split test --out wikitext.test.jsonl

A row is a document; with --begin, a row that matches begins one, and the rows up to the next are
joined. Rows are streamed, so the set need not fit into memory. Needs the extra `datasets`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pretrain.console import run_program
from pretrain.data.formats import damage, unpacked
from pretrain.data.jsonl import write_jsonl
from pretrain.errors import UserError
from pretrain.files import json_text
from pretrain.paths import path_argument


def rows(dataset: str, name: str | None, split: str, column: str) -> Iterator[str]:
    """The texts of a set, in its order.

    Raises:
        UserError: the library is not there, or the set cannot be read or lacks the column.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise UserError(
            f"the library datasets is not installed ({error}); pip install 'mifirst[datasets]'"
        ) from error
    from fsspec.compression import register_compression

    # zstandard's own reader, which fsspec takes, says nothing where a frame is cut.
    register_compression("zstd", lambda file, **_: unpacked(file, ".zst"), "zst", force=True)
    try:
        for row in load_dataset(dataset, name, split=split, streaming=True):
            if not isinstance(row.get(column), str):
                raise UserError(
                    f"{dataset}: column {column} is no text; there are {', '.join(row)}: name one "
                    "with --column"
                )
            yield row[column]
    except UserError:
        raise
    # The library raises errors of many kinds: its own, fsspec's, the network's, pyarrow's.
    except Exception as error:
        if (broken := _damage(error)) is not None:
            raise UserError(
                f"{dataset} {name or ''} ({split}): a compressed file is damaged ({broken}); copy "
                "it again"
            ) from error
        raise UserError(
            f"{dataset} {name or ''} ({split}) cannot be read: {str(error) or type(error).__name__}"
            "; check --dataset, --name and --split, and that the hub can be reached"
        ) from error


def _damage(error: BaseException | None) -> BaseException | None:
    """What was damaged, where that is behind an error."""
    while error is not None and not isinstance(error, damage()):
        error = error.__cause__ or error.__context__
    return error


def documents(texts: Iterable[str], begin: re.Pattern[str] | None) -> Iterator[str]:
    """Texts that are not blank; joined up to the next that matches `begin`, where there is one."""
    if begin is None:
        yield from (text for text in texts if text.strip())
        return
    parts: list[str] = []
    for text in texts:
        if parts and begin.search(text.rstrip("\n")):
            yield from _joined(parts)
            parts = []
        parts.append(text if text.endswith("\n") else text + "\n")
    yield from _joined(parts)


def _joined(parts: list[str]) -> Iterator[str]:
    text = "".join(parts).strip("\n")
    if text.strip():
        yield text


def make(
    out: Path,
    dataset: str,
    name: str | None = None,
    split: str = "train",
    column: str = "text",
    begin: re.Pattern[str] | None = None,
) -> dict[str, Any]:
    """Write one JSON object a document. Returns the counts."""
    found = documents(rows(dataset, name, split, column), begin)
    count = write_jsonl(out, ({"text": text} for text in found))
    return {"out": str(out), "documents": count, "bytes": out.stat().st_size}


def pattern(text: str) -> re.Pattern[str]:
    """A regular expression of the command line."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Make the file and print the counts. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools.data.hub", description="Texts of a Hugging Face data set as JSON lines"
    )
    parser.add_argument(
        "--dataset",
        type=lambda text: str(path_argument(text)),
        required=True,
        help="name on the hub, or a local folder",
    )
    parser.add_argument("--name", help="configuration of the set, where it has several")
    parser.add_argument("--split", default="train", help="part of the set (default: train)")
    parser.add_argument("--column", default="text", help="column with the text (default: text)")
    parser.add_argument("--begin", type=pattern, help="a row that this matches begins a document")
    parser.add_argument("--out", type=path_argument, required=True, help=".jsonl file to write")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    try:
        report = make(
            options.out,
            options.dataset,
            options.name,
            options.split,
            options.column,
            options.begin,
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json_text(report))
    else:
        print(f"{report['documents']:,} documents, {report['bytes']:,} bytes in {report['out']}")
    return 0


if __name__ == "__main__":
    run_program(main)
