"""Tokenize text into Megatron's PREFIX.bin and PREFIX.idx.

    python -m tools.preprocess_data --input 'text/*.jsonl.zst' --tokenizer bpe.model --output corpus
    mpirun -n 8 python -m tools.preprocess_data --input ... --tokenizer ... --output ...
    srun -n 8 python -m tools.preprocess_data --input ... --tokenizer ... --output ... --workers 16

Reads JSON lines (a "text" each), plain text (documents parted by blank lines), CSV, TSV and
Parquet; all but Parquet also as .gz, .zst, .bz2 and .xz; paths, patterns, and URLs that fsspec
knows. Any number of processes
writes the same files. Interrupted work goes on when the same command is given again, also with
another number of processes. docs/corpora.md tells more.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from pretrain.console import run_program
from pretrain.data.indexed import read_manifest, write_manifest
from pretrain.data.tokenizers import load_tokenizer
from pretrain.distributed.ranks import Ranks, discover
from pretrain.errors import UserError
from pretrain.files import json_text
from pretrain.paths import path_argument
from tools.preprocessing.chunks import plan_units
from tools.preprocessing.coordinator import Desk, refusing
from tools.preprocessing.corpus import (
    FINISHED,
    Assembly,
    bad_path,
    claimed,
    described,
    finish,
    parts_folder,
    tokenizing,
)
from tools.preprocessing.documents import Rules
from tools.preprocessing.sources import READ, find_sources, is_url
from tools.preprocessing.work import Settings
from tools.preprocessing.workers import explained, linked, mpi_world, serving, uses_mpi, work_with


def prepare(options: argparse.Namespace, ranks: Ranks) -> dict[str, Any] | None:
    """Make the corpus, together with the other processes. Returns its manifest in the first one.

    Raises:
        UserError: the input cannot be used, or the corpus cannot be written.
    """
    settings = Settings(
        options.tokenizer,
        options.sentences,
        options.end_of_document,
        Rules(options.field, options.gap, int(options.longest * 2**20)),
    )
    folder = parts_folder(options.output)
    if uses_mpi(ranks):
        mpi_world(ranks)
    if not ranks.rank:
        return _lead(options, settings, ranks, folder)
    with linked(ranks, folder) as link:
        if not work_with(link, settings, folder, options.workers):
            raise UserError("stopped, as the first process tells")
    return None


def _lead(
    options: argparse.Namespace, settings: Settings, ranks: Ranks, folder: Path
) -> dict[str, Any]:
    """The first process: it plans, has the desk, works like the others, and finishes."""
    served = False
    try:
        sources = find_sources(options.input, options.format)
        tokenizer = load_tokenizer(options.tokenizer)
        unit_bytes = int(options.unit * 2**20)
        plan = described(settings, tokenizer, sources, unit_bytes)
        with claimed(options.output, plan, options.overwrite):
            if not (folder / FINISHED).exists():
                units = plan_units(sources, unit_bytes)
                assembly = Assembly(folder, units, tokenizer.size, options.bad_share)
                desk = Desk(
                    tokenizer.fingerprint, tokenizing(units), assembly.merging, options.bad_share
                )
                served = True
                with closing(desk), serving(desk, ranks, folder) as link:
                    work_with(link, settings, folder, options.workers)
                if desk.failure is not None:
                    raise UserError(desk.failure)
                assembly.write_bad()
                write_manifest(folder / "manifest", assembly.manifest(settings, tokenizer))
            finish(folder, options.output)
    except UserError as error:
        if not served:
            with serving(refusing(str(error)), ranks, folder):
                pass
        raise
    except OSError as error:
        raise UserError(explained(error, folder)) from error
    return read_manifest(options.output)


def _positive(kind: type[float] | type[int]) -> Callable[[str], Any]:
    def parsed(text: str) -> Any:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    parsed.__name__ = kind.__name__
    return parsed


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share from 0 to 1")
    return value


def _source(text: str) -> str:
    return text if is_url(text) else str(path_argument(text))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.preprocess_data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--input", type=_source, nargs="+", required=True,
        help="files, patterns or URLs, in this order")  # fmt: skip
    add(
        "--tokenizer",
        type=path_argument,
        required=True,
        help="its file, or a folder that holds one",
    )
    add("--output", type=path_argument, required=True, help="PREFIX of the files to write")
    add("--sentences", action="store_true", help="a sequence per sentence, not per document")
    add("--end-of-document", action="store_true", help="put <end> after each document")
    add("--workers", type=_positive(int), default=1, help="processes per rank (default: 1)")
    add("--format", choices=READ, help="default: by the file's ending")
    add("--field", default="text", help="field or column with the text (default: text)")
    add("--gap", type=_positive(int), default=1, help="blank lines between documents of .txt")
    add("--longest", type=_positive(float), default=64, help="MiB of a line or document of .txt")
    add("--bad-share", type=_share, default=0.01, help="of bad records; above it, stop")
    add("--unit", type=_positive(float), default=16, help="MiB of input done at a time")
    add("--overwrite", action="store_true", help="replace what is at PREFIX")
    add("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(argv)


def _text(output: Path, report: dict[str, Any]) -> str:
    lines = [
        f"{output}: {report['documents']:,} documents, {report['sequences']:,} sequences, "
        f"{report['tokens']:,} tokens, {report['text_bytes'] / 1e6:,.1f} MB of text",
        f"{report['seconds']:.1f} s, {report['text_bytes'] / 1e6 / report['seconds']:,.2f} MB/s, "
        f"{report['documents'] / report['seconds']:,.0f} documents/s",
    ]
    if report["bad"]:
        lines.append(f"{report['bad']:,} bad records: {bad_path(output)}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the corpus and print what it holds. Returns the exit code."""
    options = _arguments(argv)
    begun = time.perf_counter()
    rank = 0
    try:
        ranks = discover()
        rank = ranks.rank
        report = prepare(options, ranks)
    except UserError as error:
        if not rank or not str(error).startswith("stopped"):
            print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; give the same command again to go on", file=sys.stderr)
        return 130
    if report is not None:
        report["seconds"] = time.perf_counter() - begun
        print(json_text(report) if options.json else _text(options.output, report))
    return 0


if __name__ == "__main__":
    run_program(main)
