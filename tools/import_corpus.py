"""Make a corpus of what another trainer tokenized, without a copy where its bytes allow it.

    python -m tools.import_corpus --input web.idx --tokenizer gpt2.json --end-token 50256
    python -m tools.import_corpus --format nanogpt --input train.bin --dtype uint16 \\
        --tokenizer gpt2.json --end-token '<|endoftext|>' --output corpora/web
    python -m tools.import_corpus --input 'a/*.ds' --tokenizer ... --end-token none --output ...

Formats: megatron (.bin and .idx), nanogpt (raw ids), llm.c, datatrove (.ds), olmo (.npy), litdata
and mds (folders), arrow and parquet (a column of ids). One file of ids that lie one after the other
is linked, and gets an index and a manifest; several files, and documents that lie apart, are
written anew. All ids are read once, and must be the tokenizer's. docs/corpora.md tells more.
"""

from __future__ import annotations

import argparse
import glob
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.console import run_program
from pretrain.data.indexed import bin_path
from pretrain.data.tokenizers import TextTokenizer, load_tokenizer
from pretrain.errors import UserError
from pretrain.files import json_text
from pretrain.paths import path_argument
from tools.importing.corpus import Wanted, import_corpus
from tools.importing.formats import FORMATS, format_of, reader_of
from tools.importing.source import INTEGERS, Asked, Flat, Shard

NONE = "none"


def end_id(text: str, tokenizer: TextTokenizer) -> int | None:
    """The id that `--end-token` means, by number or as it is written; None for none.

    Raises:
        UserError: the tokenizer has no such token.
    """
    if text == NONE:
        return None
    found = int(text) if text.isdecimal() else tokenizer.token_id(text)
    if found is None or found >= tokenizer.size:
        raise UserError(
            f"--end-token {text}: the tokenizer has {tokenizer.size:,} ids, and no such token; "
            "give its id, the token as it is written, or none"
        )
    return found


def paths_of(patterns: Sequence[Path]) -> list[Path]:
    """Paths that patterns match, in their order, by name within one; each once.

    Raises:
        UserError: a pattern matches nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        if pattern.exists() or bin_path(pattern).exists():
            found[pattern] = None
            continue
        matches = sorted(glob.glob(str(pattern), recursive=True))
        if not matches:
            raise UserError(f"--input {pattern}: matches no file; mend the pattern")
        found |= dict.fromkeys(map(Path, matches))
    return list(found)


def shards_of(options: argparse.Namespace) -> tuple[str, list[Shard]]:
    """The format, and what its reader finds.

    Raises:
        UserError: a file cannot be read, or is of another format.
    """
    paths = paths_of(options.input)
    names = dict.fromkeys(format_of(path, options.format) for path in paths)
    if len(names) > 1:
        raise UserError(f"--input: files of {', '.join(names)}; import each format by itself")
    (name,) = names
    dtype = None if options.dtype is None else np.dtype(options.dtype).newbyteorder("<")
    read = reader_of(name)
    asked = Asked(dtype, options.field)
    return name, [shard for path in paths for shard in read(path, asked)]


def output_of(options: argparse.Namespace, shards: Sequence[Shard]) -> Path:
    """The prefix to write: beside the ids where it is not given.

    Raises:
        UserError: it has to be given.
    """
    if options.output is not None:
        return Path(options.output)
    path = shards[0].path
    if len(shards) == 1 and isinstance(shards[0], Flat) and path.suffix == ".bin":
        return path.with_suffix("")
    raise UserError("--output is needed, the PREFIX to write: there is no single .bin to stand by")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.import_corpus",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--input", type=path_argument, nargs="+", required=True,
        help="files, prefixes, folders (litdata, mds) or patterns, in this order")  # fmt: skip
    add("--format", choices=FORMATS, help="default: by the file's ending, where that tells")
    add("--tokenizer", type=path_argument, required=True, help="of the ids: its file or folder")
    add("--end-token", required=True, metavar="TOKEN",
        help="with which documents end: its id, the token as it is written, or none")  # fmt: skip
    add("--output", type=path_argument, help="PREFIX to write (default: beside a single .bin)")
    add("--dtype", choices=INTEGERS, help="of raw ids, where the files do not say it")
    add("--field", default="input_ids", help="column or field with the ids (default: input_ids)")
    add("--packed", action="store_true",
        help="rows were cut from a stream: find documents by the end token")  # fmt: skip
    add("--document-tokens", type=int, metavar="N",
        help="cut what has no end token into documents of N tokens")  # fmt: skip
    add("--copy", action="store_true", help="write the ids anew, also where they could stay")
    add("--overwrite", action="store_true", help="replace what is at PREFIX")
    add("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    if options.document_tokens is not None and options.document_tokens < 1:
        parser.error(f"--document-tokens {options.document_tokens}: expected at least 1")
    return options


def _text(output: Path, manifest: dict[str, Any]) -> str:
    how = "linked, not copied" if manifest["imported"]["zero_copy"] else "written"
    lines = [
        f"{output}: {manifest['documents']:,} documents, {manifest['sequences']:,} sequences, "
        f"{manifest['tokens']:,} tokens of {manifest['dtype']}, {how}",
        *manifest["imported"]["notes"],
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Import and print what the corpus holds. Returns the exit code."""
    options = _arguments(argv)
    try:
        tokenizer = load_tokenizer(options.tokenizer, any_digits=True)
        end = end_id(options.end_token, tokenizer)
        name, shards = shards_of(options)
        output = output_of(options, shards)
        wanted = Wanted(
            name, output, tokenizer, options.tokenizer, end, options.packed,
            options.document_tokens, options.copy, options.overwrite, not options.json,
        )  # fmt: skip
        manifest = import_corpus(shards, wanted)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json_text(manifest) if options.json else _text(output, manifest))
    return 0


if __name__ == "__main__":
    run_program(main)
