"""Write a corpus for Megatron-LM: PREFIX.bin and PREFIX.idx as its own tools write them.

    python -m tools.export_corpus corpora/web --output megatron/web_text_document --end-token none
    python -m tools.export_corpus corpora/web --output ... --end-token '<|endoftext|>'

Each document becomes one sequence, since Megatron-LM's GPTDataset takes sequences for documents;
--sentences keeps them. --end-token says what follows each document (what Megatron-LM's tokenizer
calls eod), in place of the corpus's own end, or that nothing does. A manifest stands beside, so
that what is written is a corpus here, too.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.console import run_program
from pretrain.data.indexed import (
    IndexedCorpus,
    bin_path,
    idx_path,
    manifest_path,
    read_manifest,
    token_type,
    write_manifest,
)
from pretrain.data.tokenizers import TextTokenizer
from pretrain.errors import UserError
from pretrain.files import json_text
from pretrain.paths import path_argument
from pretrain.progress import progress_bar
from tools.import_corpus import end_id
from tools.importing.bounds import without_empty
from tools.importing.corpus import Intake, beside, write_index
from tools.importing.source import Bounds
from tools.inspect_data import tokenizer_of

BATCH = 1 << 14
"""Documents that are read together."""


def batches(
    corpus: IndexedCorpus, ended: bool, end: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Some documents at a time, with another end: their ids, [s] the lengths of their sequences,
    and [d] how many sequences each has.

    Args:
        ended: the last token of each document is its end.
        end: what is to follow each document instead; None for nothing.
    """
    for first in range(0, corpus.documents, BATCH):
        boundaries = corpus.boundaries[first : first + BATCH + 1].astype(np.int64)
        lengths = corpus.lengths[boundaries[0] : boundaries[-1]].astype(np.int64)
        counts = np.diff(boundaries)
        begin, stop = corpus.token_begins(boundaries[[0, -1]])
        ids = corpus.ids[begin:stop]
        last = boundaries[1:] - boundaries[0] - 1
        ends = np.cumsum(lengths)[last]
        if ended and end is not None:
            ids = ids.astype(np.int64)
            ids[ends - 1] = end
        elif ended:
            ids = np.delete(ids, ends - 1)
            lengths[last] -= 1
        elif end is not None:
            ids = np.insert(ids.astype(np.int64), ends, end)
            lengths[last] += 1
        yield ids, lengths, counts


def export(
    prefix: Path,
    output: Path,
    tokenizer: TextTokenizer,
    end: int | None,
    sentences: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Write the corpus. Returns its manifest.

    Raises:
        UserError: a file is damaged, or holds ids that no text has.
    """
    corpus, manifest = IndexedCorpus(prefix, check=True), read_manifest(prefix)
    limit = tokenizer.text_ids
    dtype = token_type(limit if end is None else max(limit, end + 1))
    lengths, counts = [np.empty(0, np.int64)], [np.zeros(1, np.int64)]
    with beside(output) as work, progress_bar(corpus.documents, "writing", " documents", progress,
                                              delay=2.0) as bar:  # fmt: skip
        with bin_path(work / "c").open("wb") as file:
            intake = Intake(limit, end, file, dtype, "the text of the corpus's tokenizer")
            for ids, each, of_document in batches(corpus, manifest["end_of_document"], end):
                intake.take(bin_path(prefix), ids)
                if not sentences:
                    each = np.add.reduceat(each, np.cumsum(of_document) - of_document)
                    of_document = np.ones_like(of_document)
                lengths.append(each)
                counts.append(of_document)
                bar.update(len(of_document))
        told = Bounds(np.concatenate(lengths), np.cumsum(np.concatenate(counts)))
        write_index(work / "c", (0, without_empty(told)), dtype)
        made = IndexedCorpus(work / "c", check=True)
        manifest |= {
            "documents": made.documents,
            "sequences": made.sequences,
            "tokens": made.tokens,
            "dtype": dtype.name,
            "sentences": sentences and manifest["sentences"],
            "end_of_document": end is not None,
            "exported": {"from": str(prefix), "end_token": end},
        }
        write_manifest(manifest_path(work / "c"), manifest)
        for path_of in (bin_path, idx_path, manifest_path):
            os.replace(path_of(work / "c"), path_of(output))
    return manifest


def _check_free(output: Path, overwrite: bool, prefix: Path) -> None:
    """Refuse what would lose something.

    Raises:
        UserError: something is there already, or is the corpus itself.
    """
    for path_of in (bin_path, idx_path, manifest_path):
        target = path_of(output)
        if not os.path.lexists(target):
            continue
        if target.exists() and os.path.samefile(target, path_of(prefix)):
            raise UserError(f"--output {output}: is the corpus itself; name another")
        if not overwrite:
            raise UserError(
                f"{target} is there already; name another --output, or give --overwrite to replace "
                "it"
            )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.export_corpus",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("prefix", type=path_argument, metavar="PREFIX", help="of .bin, .idx and .manifest.json")
    add("--output", type=path_argument, required=True, help="PREFIX of the files to write")
    add("--end-token", required=True, metavar="TOKEN",
        help="what follows each document: an id, the token as it is written, or none")  # fmt: skip
    add("--sentences", action="store_true", help="a sequence per sentence, not per document")
    add("--tokenizer", type=path_argument, help="default: the file that the manifest names")
    add("--overwrite", action="store_true", help="replace what is at --output")
    add("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Export and print what was written. Returns the exit code."""
    options = _arguments(argv)
    try:
        tokenizer = tokenizer_of(options.prefix, options.tokenizer)
        assert isinstance(tokenizer, TextTokenizer)
        end = end_id(options.end_token, tokenizer)
        _check_free(options.output, options.overwrite, options.prefix)
        manifest = export(
            options.prefix, options.output, tokenizer, end, options.sentences, not options.json
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = (
        f"{options.output}: {manifest['documents']:,} documents, {manifest['sequences']:,} "
        f"sequences, {manifest['tokens']:,} tokens of {manifest['dtype']}"
    )
    print(json_text(manifest) if options.json else text)
    return 0


if __name__ == "__main__":
    run_program(main)
