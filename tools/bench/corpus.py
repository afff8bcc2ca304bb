"""How long it takes to open a corpus and to serve its first batch, and what memory that takes.

    python -m tools.bench.corpus [--documents 1000000] [--strategy ntp|random] [--json]

Writes a corpus of made-up ids (documents of 1 to 199 tokens, sentences of 10 to 29) into a folder
that is removed again, drops what the system keeps of it in memory where that is allowed, and reads
it in a process of its own. Anonymous memory is the reader's own; of mapped files the system takes
pages back when it needs them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pretrain.console import run_program
from pretrain.data.indexed import IndexLayout, bin_path, idx_path, manifest_path, write_manifest
from pretrain.data.tokenizers import CharacterTokenizer, save_tokenizer
from pretrain.files import json_text
from pretrain.paths import path_argument

SENTENCE = 10, 30
LONGEST = 200
ALPHABET = "".join(map(chr, range(0x4E00, 0x4E00 + 8000)))


def write_corpus(folder: Path, documents: int) -> Path:
    """Write a corpus of made-up ids, and the tokenizer that it names. Returns the prefix."""
    tokenizer = CharacterTokenizer(ALPHABET)
    save_tokenizer(tokenizer, folder / "tokenizer.json")
    random = np.random.default_rng(0)
    sizes = random.integers(1, LONGEST, documents)
    most = -(-LONGEST // SENTENCE[0])
    drawn = np.cumsum(random.integers(*SENTENCE, (documents, most)), axis=1)
    lengths_dm = np.diff(np.minimum(drawn, sizes[:, None]), axis=1, prepend=0)
    lengths = lengths_dm[lengths_dm > 0].astype("<i4")
    ends = np.cumsum(lengths, dtype="<i8")
    layout = IndexLayout(np.dtype("<u2"), len(lengths), documents)
    with idx_path(folder / "corpus").open("wb") as file:
        file.write(layout.header())
        lengths.tofile(file)
        (2 * (ends - lengths)).astype("<i8").tofile(file)
        np.cumsum([0, *(lengths_dm > 0).sum(axis=1)], dtype="<i8").tofile(file)
    ids = random.integers(0, len(ALPHABET), int(ends[-1]), dtype=np.uint16)
    ids.tofile(bin_path(folder / "corpus"))
    write_manifest(
        manifest_path(folder / "corpus"),
        {
            "documents": documents,
            "sequences": len(lengths),
            "tokens": int(ends[-1]),
            "text_bytes": 0,
            "sentences": True,
            "end_of_document": False,
            "tokenizer": {
                "file": "tokenizer.json",
                "size": tokenizer.size,
                "fingerprint": tokenizer.fingerprint,
            },
            "sources": [],
        },
    )
    return folder / "corpus"


def memory_mib() -> dict[str, float]:
    """MiB of this process: anonymous, and pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return {
        name: int(values[field].split()[0]) / 1024
        for name, field in (("anonymous", "RssAnon"), ("file", "RssFile"))
    }


def read(prefix: Path, strategy: str, batch: int, length: int, steps: int) -> dict[str, Any]:
    """Open a corpus, serve batches, and say how long each took."""
    from pretrain.config import load_config
    from pretrain.selection.selector import Selection
    from pretrain.tasks.text.batches import PackedBatches
    from pretrain.tasks.text.corpus import BlendedCorpus
    from pretrain.tasks.text.selection import Chooser, transform_of

    config = load_config(
        None,
        {
            "model": {"sequence_length": length},
            "data": {
                "task": "corpus",
                "blend": [str(prefix)],
                "tokenizer": prefix.parent / "tokenizer.json",
            },
            "selection": {"strategy": strategy},
            "training": {"global_batch": batch},
        },
    )
    before = memory_mib()
    begun = time.perf_counter()
    corpus = BlendedCorpus(config)
    transform = transform_of(strategy, corpus.tokenizer)
    sampler = corpus.sampler(corpus.train.packed(transform, length), config)
    end = corpus.tokenizer.special("<end>")
    chooser = Chooser(Selection(strategy))
    reader = PackedBatches(corpus.train, transform, end, sampler, lambda _: chooser, 0, 1, length)
    opened = time.perf_counter()
    reader.read(0, chooser)
    first = time.perf_counter()
    for step in range(1, steps):
        reader.read(step, chooser)
    done = time.perf_counter()
    after = memory_mib()
    return {
        "documents": len(corpus.parts[0].train),
        "sequences": sampler.examples,
        "open_seconds": opened - begun,
        "first_batch_seconds": first - opened,
        "batch_seconds": (done - first) / max(1, steps - 1),
        "tokens_per_second": (steps - 1) * batch * length / (done - first),
        **{f"{name}_mib": after[name] - before[name] for name in after},
    }


def _text(report: dict[str, Any]) -> str:
    return (
        f"{report['documents']:,} training documents, {report['sequences']:,} sequences\n"
        f"opened in        {report['open_seconds']:.3f} s\n"
        f"first batch in   {report['first_batch_seconds']:.3f} s\n"
        f"others in        {report['batch_seconds']:.4f} s each, "
        f"{report['tokens_per_second'] / 1e6:.1f} million tokens/s\n"
        f"memory           {report['anonymous_mib']:.1f} MiB of its own, "
        f"{report['file_mib']:.1f} MiB of mapped files"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench.corpus",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--documents", type=int, default=1_000_000)
    add("--strategy", choices=["ntp", "random", "first"], default="ntp")
    add("--batch", type=int, default=32, help="sequences of a batch (default: 32)")
    add("--length", type=int, default=1024, help="of a sequence (default: 1024)")
    add("--steps", type=int, default=50, help="batches to serve (default: 50)")
    add("--folder", type=path_argument, help="where to write (default: the system's)")
    add("--json", action="store_true", help="print one JSON object")
    add("--read", type=path_argument, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.read is not None:
        sizes = options.batch, options.length, options.steps
        print(json_text(read(options.read, options.strategy, *sizes)))
        return 0
    with TemporaryDirectory(dir=options.folder) as folder:
        prefix = write_corpus(Path(folder), options.documents)
        for path in (bin_path(prefix), idx_path(prefix)):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
        given = list(sys.argv[1:] if argv is None else argv)
        command = [sys.executable, "-m", "tools.bench.corpus", *given, "--read", str(prefix)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return done.returncode
    print(done.stdout.strip() if options.json else _text(json.loads(done.stdout)))
    return 0


if __name__ == "__main__":
    run_program(main)
