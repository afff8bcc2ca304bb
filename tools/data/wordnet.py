"""Glosses of WordNet's nouns and the path of their hypernyms, as records: levels are units.

    apt-get install wordnet-base
    python -m tools.data.wordnet --out data/wordnet.jsonl
    python -m tools.data.wordnet --out data/wordnet.jsonl --nouns dict/data.noun --levels 4

The source is a synset's definition, without its examples. The target has a field for each level:
`level1` the child of the root `entity` that the synset lies under, `level2` the one below it, and
so on, down to its hypernym; "-" where the path is shorter, or where fewer than --minimum
definitions lie under a synset, so that it is not told apart. The synset itself is not in its path.
Of several hypernyms the first is taken; an instance's class counts as one. Synsets are named by
their first word, and by a number after # where others have it, too. Natural order is root first,
`reverse` leaf first; `data.path_end: "-"` scores paths as such.

Format: wndb(5WN). Data: Princeton University, WordNet 3.0.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretrain.console import run_program
from pretrain.data.jsonl import read_lines, write_jsonl
from pretrain.errors import UserError
from pretrain.files import json_text
from pretrain.paths import path_argument
from tools.data.debtags import positive

NOUNS = Path("/usr/share/wordnet/data.noun")
NONE = "-"
"""Of a level that a synset does not have."""
HYPERNYMS = ("@", "@i")
_EXAMPLE = re.compile(r';\s*"')


@dataclass(frozen=True)
class Synset:
    """A noun synset.

    Attributes:
        name: its first word, told apart from others.
        definition: the gloss without examples.
        parent: key of its first hypernym; None for the root.
    """

    name: str
    definition: str
    parent: str | None


def read_nouns(path: Path) -> dict[str, Synset]:
    """Synsets of a file data.noun by their offset.

    Raises:
        UserError: the file cannot be read, or a line is none of the format.
    """
    found: dict[str, Synset] = {}
    names: Counter[str] = Counter()
    for number, line in read_lines(path):
        if line.startswith("  ") or not line.strip():
            continue
        head, bar, gloss = line.partition("|")
        fields = head.split()
        try:
            offset, kind, words = fields[0], fields[2], int(fields[3], 16)
            pointers = fields[5 + 2 * words :]
            parents = [
                pointers[place + 1]
                for place in range(0, 4 * int(fields[4 + 2 * words]), 4)
                if pointers[place] in HYPERNYMS
            ]
            word = fields[4]
        except (IndexError, ValueError):
            kind = ""
        if kind != "n" or not bar:
            raise UserError(
                f"{path}:{number}: expected a noun synset of WordNet's data.noun (wndb), found "
                f"{line[:60]!r}"
            )
        names[word] += 1
        name = word if names[word] == 1 else f"{word}#{names[word]}"
        definition = _EXAMPLE.split(gloss)[0].strip()
        found[offset] = Synset(name, definition, parents[0] if parents else None)
    for offset, synset in found.items():
        if synset.parent is not None and synset.parent not in found:
            raise UserError(
                f"{path}: the hypernym {synset.parent} of {offset} is not there; the file is cut "
                "short, get it again"
            )
    return found


def path_of(offset: str, synsets: Mapping[str, Synset]) -> list[str]:
    """Offsets from below the root to the synset's hypernym.

    Raises:
        UserError: the hypernyms go round in a circle.
    """
    found: list[str] = []
    parent = synsets[offset].parent
    while parent is not None:
        if parent in found or parent == offset:
            raise UserError(f"the hypernyms of {offset} go round in a circle; get data.noun again")
        found.append(parent)
        parent = synsets[parent].parent
    return found[::-1][1:]


def records(
    synsets: Mapping[str, Synset], levels: int, minimum: int
) -> Iterator[tuple[str, list[str]]]:
    """Definition, and the name at each level, of every synset that has a first level."""
    paths = {offset: path_of(offset, synsets)[:levels] for offset in synsets}
    below = Counter(each for path in paths.values() for each in path)
    for offset, path in paths.items():
        kept = [synsets[each].name for each in path if below[each] >= minimum]
        if kept and synsets[offset].definition:
            yield synsets[offset].definition, kept + [NONE] * (levels - len(kept))


def make(out: Path, nouns: Path, levels: int, minimum: int) -> dict[str, Any]:
    """Write the records. Returns the counts.

    Raises:
        UserError: the file cannot be read, or nothing is left.
    """
    synsets = read_nouns(nouns)
    found = list(records(synsets, levels, minimum))
    if not found:
        raise UserError(
            f"{nouns}: no synset has {minimum} definitions under it; choose a smaller --minimum"
        )
    lines: Iterable[Mapping[str, Any]] = (
        {"source": text, "target": {f"level{n}": name for n, name in enumerate(path, start=1)}}
        for text, path in found
    )
    written = write_jsonl(out, lines)
    depths = Counter(sum(name != NONE for name in path) for _, path in found)
    return {
        "out": str(out),
        "written": written,
        "synsets": len(synsets),
        "classes": [len({path[n] for _, path in found} - {NONE}) for n in range(levels)],
        "depths": {str(depth): depths[depth] for depth in sorted(depths)},
        "bytes": out.stat().st_size,
    }


def _report(report: dict[str, Any]) -> str:
    depths = ", ".join(f"{depth}: {count:,}" for depth, count in report["depths"].items())
    classes = ", ".join(f"level{n} {count}" for n, count in enumerate(report["classes"], start=1))
    return "\n".join(
        [
            f"{report['written']:,} records of {report['synsets']:,} noun synsets",
            f"classes: {classes}",
            f"levels that a path has: {depths}",
            f"{report['bytes']:,} bytes in {report['out']}",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Make the file and print the counts. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools.data.wordnet", description="WordNet's noun glosses and their hypernyms"
    )
    parser.add_argument("--out", type=path_argument, required=True, help="JSONL file to write")
    parser.add_argument(
        "--nouns", type=path_argument, default=NOUNS, help=f"WordNet's data.noun ({NOUNS})"
    )
    parser.add_argument("--levels", type=positive, default=6, help="levels below the root (6)")
    parser.add_argument(
        "--minimum", type=positive, default=100, help="definitions under a synset (100)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    try:
        if not options.nouns.exists():
            raise UserError(
                f"{options.nouns} is not there; on Debian: apt-get install wordnet-base, or "
                "apt-get download wordnet-base, dpkg -x it and give --nouns "
                "FOLDER/usr/share/wordnet/data.noun"
            )
        report = make(options.out, options.nouns, options.levels, options.minimum)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json_text(report) if options.json else _report(report))
    return 0


if __name__ == "__main__":
    run_program(main)
