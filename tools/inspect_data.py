"""What a prepared corpus holds: counts, lengths, and documents as text.

    python -m tools.inspect_data corpora/web
    python -m tools.inspect_data corpora/web --documents 5 --plot lengths.png
    python -m tools.inspect_data corpora/web --config configs/smoke/corpus.yaml

With a configuration, the tokens that its selection puts in front of the sentences are marked where
they stand; the table is that of the configuration's blend, fitted or loaded. Fields of it can be
given as to training, such as --selection.strategy min_mi. Documents are taken evenly spaced.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pretrain.config import Config, parse_arguments
from pretrain.config.data import TokenizerFile
from pretrain.console import run_program
from pretrain.data.indexed import IndexedCorpus, check_tokenizer, read_manifest
from pretrain.data.tokenizers import Tokenizer, load_tokenizer
from pretrain.errors import ConfigError, UserError
from pretrain.files import json_text
from pretrain.paths import path_argument
from pretrain.tasks.text.indexed import IndexedText

if TYPE_CHECKING:
    from pretrain.tasks.text.selection import Chooser

WIDTH = 80
AT_ONCE = 1 << 20
"""Lengths that are looked at together."""
SHOWN_TOKENS = 160
QUANTILES = {"median": 0.5, "90 %": 0.9, "99 %": 0.99}
BARS = 40


def counted(ends: Callable[[np.ndarray], np.ndarray], count: int) -> np.ndarray:
    """How often each length occurs, from 0 on.

    Args:
        ends: numbers -> where each begins, in tokens; `count` gives where the last one ends.
        count: of what is measured.
    """
    found = np.zeros(1, dtype=np.int64)
    for first in range(0, count, AT_ONCE):
        begins = ends(np.arange(first, min(first + AT_ONCE, count) + 1))
        more = np.bincount(np.diff(begins), minlength=len(found))
        more[: len(found)] += found
        found = more
    return found


def described(counts: np.ndarray) -> dict[str, Any]:
    """Mean, quantiles and a histogram by powers of two of lengths, by how often each occurs."""
    lengths, total = np.arange(len(counts)), int(counts.sum())
    reached = np.cumsum(counts)
    edges = [0, 1, *(2**power for power in range(1, len(counts).bit_length() + 1))]
    return {
        "count": total,
        "mean": float((lengths * counts).sum()) / total if total else 0.0,
        **{
            name: int(np.searchsorted(reached, share * total))
            for name, share in QUANTILES.items()
            if total
        },
        "longest": int(lengths[counts > 0].max(initial=0)),
        "histogram": [
            {"from": low, "to": high - 1, "count": int(counts[low:high].sum())}
            for low, high in pairwise(edges)
            if counts[:high].any() and counts[low:].any()
        ],
    }


def inspect(prefix: Path) -> dict[str, Any]:
    """Counts and lengths of a corpus, and what its manifest says.

    Raises:
        UserError: a file is missing or damaged.
    """
    corpus = IndexedCorpus(prefix, check=True)
    manifest = read_manifest(prefix)
    report = {
        "prefix": str(prefix),
        "documents": corpus.documents,
        "sequences": corpus.sequences,
        "tokens": corpus.tokens,
        "bytes_on_disk": corpus.bytes + corpus.layout.size,
        "manifest": manifest,
    }
    if corpus.tokens:
        report["document_lengths"] = described(
            counted(lambda numbers: corpus.token_begins(corpus.boundaries[numbers]),
                    corpus.documents)
        )  # fmt: skip
        if manifest["sentences"]:
            report["sentence_lengths"] = described(counted(corpus.token_begins, corpus.sequences))
    return report


def tokenizer_of(prefix: Path, given: Path | None) -> Tokenizer:
    """The corpus's tokenizer, from the file that is given or that the manifest names.

    Raises:
        UserError: it is not there, or another.
    """
    path = Path(read_manifest(prefix)["tokenizer"]["file"]) if given is None else given
    tokenizer = load_tokenizer(path, any_digits=True)
    check_tokenizer(prefix, tokenizer)
    return tokenizer


def chooser_of(config: Config) -> Chooser | None:
    """What selects tokens under a configuration; None where nothing is selected.

    Raises:
        UserError: a corpus or table cannot be used.
        ConfigError: it is not a configuration of corpora.
    """
    from pretrain.tasks.text.config import CorpusData
    from pretrain.tasks.text.task import CorpusTask

    if not isinstance(config.data, CorpusData):
        raise ConfigError(f"--config: data.task is {config.data.task}, expected corpus")
    if config.selection.strategy in ("ntp", "blank"):
        return None
    fitter = CorpusTask(config).fitter
    chooser: Chooser = fitter.selector(*fitter.fit_or_load(None, config.run.progress))
    return chooser


def samples(
    prefix: Path,
    tokenizer: Tokenizer,
    documents: int,
    chooser: Chooser | None,
    mark: Callable[[str], str],
) -> Iterator[dict[str, Any]]:
    """Documents evenly spaced, decoded, selected tokens marked."""
    corpus, manifest = IndexedCorpus(prefix), read_manifest(prefix)
    text = IndexedText(corpus, 0, corpus.documents, manifest["end_of_document"])
    wanted = min(documents, len(text))
    for number in (np.arange(wanted) * len(text) // max(1, wanted)).tolist():
        first, last = text.firsts(np.array([number, number + 1])).tolist()
        parts, left = [], SHOWN_TOKENS
        for sentence in range(first, last):
            if left <= 0:
                break
            tokens = text.take(np.array([sentence])).tokens
            place = -1 if chooser is None else int(chooser.best(text, np.array([sentence]))[0])
            parts.append(_marked(tokenizer, tokens[:left], place, mark))
            left -= len(tokens)
        begins = text.document_begins(np.array([number, number + 1]))
        yield {
            "document": number,
            "sentences": last - first,
            "tokens": int(begins[1] - begins[0]) - text.ended,
            "text": "".join(parts) + (" ..." if left < 0 or sentence < last - 1 else ""),
        }


def _marked(
    tokenizer: Tokenizer, tokens: np.ndarray, place: int, mark: Callable[[str], str]
) -> str:
    if not 0 <= place < len(tokens):
        return tokenizer.decode(tokens)
    before, chosen, after = (
        tokenizer.decode(part) for part in np.split(tokens, [place, place + 1])
    )
    content = chosen.strip()
    if not content:
        return before + mark(chosen) + after
    return before + chosen.replace(content, mark(content), 1) + after


def plot(report: dict[str, Any], path: Path) -> None:
    """Draw the histograms of lengths.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    kinds = [name for name in ("document_lengths", "sentence_lengths") if name in report]
    figure = Figure(figsize=(5.5 * len(kinds), 3.6), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(kinds))), kinds, strict=True):
        histogram = report[name]["histogram"]
        axes.bar(range(len(histogram)), [entry["count"] for entry in histogram], width=0.9)
        axes.set_xticks(
            range(len(histogram)), [_range(entry) for entry in histogram], rotation=45, ha="right"
        )
        axes.set_xlabel("tokens")
        axes.set_ylabel(f"{name.partition('_')[0]}s")
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(Path(report["prefix"]).name)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"--plot {path}: cannot be written ({error})") from None


def _range(entry: dict[str, int]) -> str:
    low, high = entry["from"], entry["to"]
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"


def _bars(title: str, lengths: dict[str, Any]) -> list[str]:
    most = max(entry["count"] for entry in lengths["histogram"])
    told = ", ".join(f"{name} {lengths[name]:,}" for name in (*QUANTILES, "longest"))
    lines = ["", f"tokens of a {title}", f"  mean {lengths['mean']:,.1f}, {told}"]
    width = max(len(_range(entry)) for entry in lengths["histogram"])
    for entry in lengths["histogram"]:
        bar = "█" * round(BARS * entry["count"] / most) or "▏" * bool(entry["count"])
        lines.append(f"  {_range(entry):>{width}}  {bar} {entry['count']:,}")
    return lines


def _text(report: dict[str, Any]) -> str:
    manifest = report["manifest"]
    made = manifest["tokenizer"]
    size = manifest["text_bytes"]
    each = "" if size is None else f", {size / max(1, report['tokens']):.2f} bytes of text each"
    rows = {
        "documents": f"{report['documents']:,}",
        "sentences": f"{report['sequences']:,}" if manifest["sentences"] else "not told apart",
        "tokens": f"{report['tokens']:,}{each}",
        "text": "not counted" if size is None else f"{size / 1e6:,.1f} MB",
        "on disk": f"{report['bytes_on_disk'] / 1e6:,.1f} MB",
        "<end>": "after each document" if manifest["end_of_document"] else "not in the corpus",
        "tokenizer": f"{made['size']:,} ids, {made['fingerprint'][:12]}, {made['file']}",
        "left out": f"{manifest.get('bad', 0):,} bad records, {manifest.get('blank', 0):,} blank",
    }
    lines = [report["prefix"], *(f"  {name:<10} {value}" for name, value in rows.items())]
    for source in manifest["sources"]:
        if "path" in source:
            count = f", {source['documents']:,} documents" if "documents" in source else ""
            lines.append(f"  {'source':<10} {source['path']}{count}")
    for title in ("document", "sentence"):
        if f"{title}_lengths" in report:
            lines += _bars(title, report[f"{title}_lengths"])
    if report.get("marked"):
        lines += ["", f"selected by {report['marked']}: the tokens that are marked"]
    for sample in report.get("samples", ()):
        of = f", {sample['sentences']:,} sentences" if manifest["sentences"] else ""
        lines += ["", f"document {sample['document']:,}: {sample['tokens']:,} tokens{of}"]
        for line in sample["text"].splitlines():
            lines += textwrap.wrap(
                line, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
            )
    if "not_shown" in report:
        lines += ["", f"documents are not shown: {report['not_shown']}"]
    return "\n".join(lines)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the inspection."""
    add = parser.add_argument
    add("prefix", type=path_argument, metavar="PREFIX", help="of .bin, .idx and .manifest.json")
    add("--documents", type=int, default=3, help="to show as text (default: 3)")
    add("--tokenizer", type=path_argument, help="default: the file that the manifest names")
    add("--plot", type=path_argument, help="draw the lengths into this file")
    add("--json", action="store_true", help="print one JSON object")


def main(argv: Sequence[str] | None = None) -> int:
    """Inspect and print. Returns the exit code."""
    try:
        config, options = parse_arguments(
            list(sys.argv[1:] if argv is None else argv), "tools.inspect_data", add_options
        )
        report = inspect(options.prefix)
        chooser = None if options.config is None else chooser_of(config)
        if chooser is not None:
            report["marked"] = config.selection.strategy
        colour = sys.stdout.isatty() and not options.json
        mark = (lambda text: f"\x1b[7m{text}\x1b[0m") if colour else (lambda text: f"[[{text}]]")
        data = config.data
        named = data.tokenizer if isinstance(data, TokenizerFile) else None
        given = options.tokenizer or named
        if options.documents and report["tokens"]:
            try:
                tokenizer = tokenizer_of(options.prefix, given)
                shown = samples(options.prefix, tokenizer, options.documents, chooser, mark)
                report["samples"] = list(shown)
            except UserError as error:
                if given is not None:
                    raise
                report["not_shown"] = f"{error}; name it with --tokenizer"
        if options.plot is not None:
            plot(report, options.plot)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json_text(report) if options.json else _text(report))
    return 0


if __name__ == "__main__":
    run_program(main)
