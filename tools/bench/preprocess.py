"""How fast text becomes a corpus, beside the ways that people take today, on the same cores.

    python -m tools.bench.preprocess [--json] [--megabytes 200] [--processes 1,2] [--input FILE...]

- ours: tools.preprocess_data, with so many workers.
- pool: a pool of processes, one call of the tokenizer for each document, and one process that takes
  the ids in and adds each document to an index, as Megatron-LM's tools/preprocess_data.py works.
- datasets_map: Hugging Face datasets: the JSON lines are loaded and mapped, in batches of 1,000.
  It ends with ids in Arrow, which would still have to become an index.

All have the same tokenizer, a SentencePiece model trained on the input, and are held to as many
cores as they have processes. The text is made of the input's sentences, drawn at random. Repeated
sentences bring no new words, and ours remembers words; so a share of the words (--new-words) is
replaced by made-up ones, each of them used once. Debian's package descriptions bring 7 % new words
in their first 13 MB, which by Heaps' law (exponent 0.65) is 3 % over 200 MB.

MB are 10^6 bytes of text. Routes take turns; a ratio is their seconds over ours of the same round.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import resource
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.console import run_program
from pretrain.data.indexed import IndexLayout, bin_path, idx_path, token_type
from pretrain.data.jsonl import read_texts
from pretrain.data.sentences import split_sentences
from pretrain.data.tokenizers import (
    SentencePieceTokenizer,
    load_tokenizer,
    save_tokenizer,
    train_pieces,
)
from pretrain.errors import UserError
from pretrain.files import json_text
from pretrain.paths import path_argument
from tools import preprocess_data
from tools.bench.rounds import extremes, median, ratios, significant, take_turns

SIZE = 16_000
"""Of the tokenizer."""
LEARNT = 4_000_000
"""Characters of the input that the tokenizer is trained on."""
ROUTES = ("ours", "pool", "datasets_map")


def sentences_of(paths: Sequence[Path]) -> list[str]:
    """All sentences of files, or of Python's own documentation where there are none."""
    from tools.bench.cooccurrence import natural_corpus

    if paths:
        texts = [text for path in paths for text in read_texts(path)]
    else:
        texts = natural_corpus(None).split("\n\n")
    return [sentence for text in texts for sentence in split_sentences(text)]


def made_documents(
    sentences: Sequence[str], size: int, new_words: float, seed: int
) -> Iterator[str]:
    """Documents of 1 to 40 sentences drawn at random, of `size` bytes together.

    Args:
        new_words: share of the words that are replaced by made-up ones.
    """
    drawn = random.Random(seed)
    while size > 0:
        words = "".join(drawn.choices(sentences, k=drawn.randint(1, 40))).split(" ")
        for _ in range(round(new_words * len(words))):
            word = "".join(drawn.choices(string.ascii_lowercase, k=drawn.randint(6, 12)))
            words[drawn.randrange(len(words))] = word
        text = " ".join(words)
        yield text
        size -= len(text.encode())


def ours(text: Path, tokenizer: Path, out: Path, processes: int) -> float:
    """Seconds of tools.preprocess_data."""
    begun = time.perf_counter()
    arguments = ["--input", text, "--tokenizer", tokenizer, "--output", out, "--json"]
    with contextlib.redirect_stdout(io.StringIO()):
        code = preprocess_data.main([*map(str, arguments), "--workers", str(processes)])
    if code:
        raise UserError("tools.preprocess_data failed, as it says above")
    return time.perf_counter() - begun


def pool(text: Path, tokenizer: Path, out: Path, processes: int) -> float:
    """Seconds of one call per document."""
    begun = time.perf_counter()
    dtype = token_type(load_tokenizer(tokenizer).size)
    lengths: list[int] = []
    pointers: list[int] = []
    boundaries = [0]
    end = 0
    with (
        multiprocessing.Pool(processes, _load, (tokenizer,)) as workers,
        text.open(encoding="utf-8") as lines,
        bin_path(out).open("wb") as file,
    ):
        for ids in workers.imap(_encode_line, lines, 32):
            if ids:
                content = np.array(ids, dtype).tobytes()
                file.write(content)
                lengths.append(len(ids))
                pointers.append(end)
                end += len(content)
                boundaries.append(len(lengths))
    with idx_path(out).open("wb") as file:
        file.write(IndexLayout(dtype, len(lengths), len(lengths)).header())
        file.write(np.array(lengths, "<i4").tobytes())
        file.write(np.array(pointers, "<i8").tobytes())
        file.write(np.array(boundaries, "<i8").tobytes())
    return time.perf_counter() - begun


def datasets_map(text: Path, tokenizer: Path, out: Path, processes: int) -> float:
    """Seconds of loading and mapping."""
    import datasets

    datasets.disable_progress_bars()
    begun = time.perf_counter()
    lines = datasets.load_dataset(
        "json", data_files=str(text), split="train", cache_dir=f"{out}.cache"
    )
    encode = _processor(tokenizer).encode
    mapped = lines.map(
        lambda batch: {"ids": encode(batch["text"])},
        batched=True,
        remove_columns=lines.column_names,
        num_proc=processes if processes > 1 else None,
        new_fingerprint="ids",
    )
    assert len(mapped) == len(lines)
    return time.perf_counter() - begun


CALLS: dict[str, Callable[[Path, Path, Path, int], float]] = {
    "ours": ours,
    "pool": pool,
    "datasets_map": datasets_map,
}

_encode: Callable[[str], list[int]]


def _processor(tokenizer: Path) -> Any:
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=tokenizer.read_bytes())


def _load(tokenizer: Path) -> None:
    global _encode
    _encode = _processor(tokenizer).encode


def _encode_line(line: str) -> list[int]:
    return _encode(json.loads(line)["text"])


def run_route(name: str, text: Path, tokenizer: Path, processes: int) -> dict[str, float]:
    """Seconds and peak memory of a route, in a process of its own.

    Returns:
        seconds, without the start of Python; cpu_seconds, of all its processes, from their start;
        peak_mib, of its first process.
    """
    command = [sys.executable, "-m", "tools.bench.preprocess", "--route", name]
    arguments = [str(text), str(tokenizer), str(processes)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"route {name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _one_route(name: str, text: Path, tokenizer: Path, processes: int) -> None:
    cores = sorted(os.sched_getaffinity(0))[:processes]
    os.sched_setaffinity(0, cores)
    with tempfile.TemporaryDirectory(dir=text.parent) as folder:
        seconds = CALLS[name](text, tokenizer, Path(folder) / "corpus", processes)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    report = {
        "seconds": seconds,
        "cpu_seconds": sum(usage.ru_utime + usage.ru_stime for usage in used),
        "peak_mib": _peak_kib() / 1024,
    }
    print(json_text(report))


def _peak_kib() -> int:
    """Most memory that this process had; unlike ru_maxrss, nothing of the one that started it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise UserError("/proc/self/status has no VmHWM; peak memory is measured on Linux only")


def make_files(options: argparse.Namespace, folder: Path) -> tuple[Path, Path, Path]:
    """The text, a quarter of it, and the tokenizer."""
    sentences = sentences_of(options.input)
    learnt = "".join(sentences)[:LEARNT].split("\n")
    tokenizer = folder / "tokenizer.model"
    made = train_pieces(learnt, options.kind, options.size)
    assert isinstance(made, SentencePieceTokenizer)
    save_tokenizer(made, tokenizer)
    files = []
    for name, size in (("text", options.megabytes), ("quarter", options.megabytes / 4)):
        files.append(folder / f"{name}.jsonl")
        with files[-1].open("w", encoding="utf-8") as file:
            for text in made_documents(sentences, int(size * 1e6), options.new_words, 0):
                file.write(json_text({"text": text}, ascii_only=False) + "\n")
    return files[0], files[1], tokenizer


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All routes, with every number of processes."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        text, quarter, tokenizer = make_files(options, Path(name))
        megabytes = (
            sum(len(json.loads(line)["text"].encode()) for line in text.open(encoding="utf-8"))
            / 1e6
        )
        by_processes = {
            str(processes): _compared(text, tokenizer, processes, megabytes, options.rounds)
            for processes in options.processes
        }
        smaller = run_route("ours", quarter, tokenizer, 1)["peak_mib"]
        larger = run_route("ours", text, tokenizer, 1)["peak_mib"]
    worst = {
        name: min(entry["ratio"][name] for entry in by_processes.values())
        for name in ("pool", "datasets_map")
    }
    return {
        "ratio": worst,
        "processes": by_processes,
        "peak_mib": {
            f"{options.megabytes / 4:g} MB": significant(smaller),
            f"{options.megabytes:g} MB": significant(larger),
        },
        "megabytes": significant(megabytes),
        "tokenizer": {"kind": options.kind, "size": options.size},
        "new_words": options.new_words,
        "rounds": options.rounds,
    }


def _compared(
    text: Path, tokenizer: Path, processes: int, megabytes: float, rounds: int
) -> dict[str, Any]:
    reports: dict[str, list[dict[str, float]]] = {name: [] for name in ROUTES}

    def route(name: str) -> float:
        reports[name].append(run_route(name, text, tokenizer, processes))
        return reports[name][-1]["seconds"]

    seconds = take_turns({name: partial(route, name) for name in ROUTES}, rounds, {})

    def cpu(name: str) -> float:
        return median([report["cpu_seconds"] for report in reports[name]])

    theirs = ROUTES[1:]
    return {
        "ratio": {name: median(ratios(seconds, name, "ours")) for name in theirs},
        "ratio_range": {name: extremes(ratios(seconds, name, "ours")) for name in theirs},
        "cpu_ratio": {name: significant(cpu(name) / cpu("ours")) for name in theirs},
        "mb_per_second": {name: median([megabytes / s for s in seconds[name]]) for name in ROUTES},
        "mb_per_cpu_second": {name: significant(megabytes / cpu(name)) for name in ROUTES},
    }


def _text(report: dict[str, Any]) -> str:
    lines = [
        f"{report['megabytes']:g} MB of text, {report['tokenizer']['kind']} of "
        f"{report['tokenizer']['size']:,} ids, {100 * report['new_words']:g} % new words",
        f"{'processes':>9} {'route':<13} {'MB/s':>8} {'MB/CPU s':>9} {'ratio':>7}",
    ]
    for processes, entry in report["processes"].items():
        for name in ROUTES:
            ratio = f"{entry['ratio'][name]:.2f}" if name in entry["ratio"] else ""
            lines.append(
                f"{processes:>9} {name:<13} {entry['mb_per_second'][name]:>8.2f} "
                f"{entry['mb_per_cpu_second'][name]:>9.2f} {ratio:>7}"
            )
    peaks = ", ".join(f"{peak:.0f} MiB at {size}" for size, peak in report["peak_mib"].items())
    return "\n".join([*lines, f"peak memory of ours, one process: {peaks}"])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench.preprocess",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--input",
        type=path_argument,
        nargs="*",
        default=[],
        help=".txt or .jsonl whose sentences to use",
    )
    add("--megabytes", type=float, default=200.0, help="of text (default: 200)")
    add("--processes", default="1,2", help="numbers of processes (default: 1,2)")
    add("--rounds", type=int, default=1, help="turns of each route (default: 1)")
    add("--kind", choices=["bpe", "unigram"], default="bpe", help="of SentencePiece model")
    add("--size", type=int, default=SIZE, help="of the tokenizer")
    add("--new-words", type=float, default=0.03, help="share of words that are made up")
    add("--folder", type=path_argument, help="where to write (default: the system's)")
    add("--json", action="store_true", help="print one JSON object")
    add("--route", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    try:
        if options.route:
            name, text, tokenizer, processes = options.route
            _one_route(name, Path(text), Path(tokenizer), int(processes))
            return 0
        options.processes = [int(number) for number in options.processes.split(",")]
        report = measure(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json_text(report) if options.json else _text(report))
    return 0


if __name__ == "__main__":
    run_program(main)
