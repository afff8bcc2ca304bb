"""Made-up records in two files, of training and of held-out examples, with nothing in both."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pretrain.data.jsonl import write_jsonl
from pretrain.paths import path_argument

Draw = Callable[[int], Iterator[Mapping[str, Any]]]
"""So many records, no two of which are the same."""


def write_sides(
    draw: Draw, out: Path, test: Path | None, counts: tuple[int, int]
) -> dict[str, Any]:
    """Write the examples, held-out ones first drawn. Returns the counts.

    Args:
        test: None for no held-out examples.
        counts: training and held-out examples.

    Raises:
        UserError: there are not as many.
    """
    held_out = counts[1] if test is not None else 0
    records = draw(counts[0] + held_out)
    first = [next(records) for _ in range(held_out)]
    if test is not None:
        write_jsonl(test, first)
    written = write_jsonl(out, records)
    return {"out": str(out), "examples": written, "test": held_out}


def add_files(parser: argparse.ArgumentParser) -> None:
    """Options that name the two files."""
    parser.add_argument("--out", type=path_argument, required=True, help="JSONL file to write")
    parser.add_argument("--test", type=path_argument, help="JSONL file for held-out examples")


def in_words(report: Mapping[str, Any]) -> str:
    """The counts, for people."""
    return f"{report['examples']:,} examples in {report['out']}, {report['test']:,} held out"
