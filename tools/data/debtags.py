"""Package descriptions and their tags from Debian's package lists, as labelled texts.

    apt-get -o Acquire::Languages=en update
    python -m tools.data.debtags --out debtags.jsonl
    python -m tools.data.debtags --out data/debtags.sample.jsonl --sample 3000

The text is the short description, a line end, and the long description. The field Package is not
put in, for a name such as libfoo-perl gives its tags away; a description may still name it.
Labels are sorted by name. Dropped are placeholders of the tags' editors (`suite::TODO`,
`devel::lang:TODO`, `special::not-yet-tagged`), what is no `facet::tag`, tags of fewer packages
than --minimum, and packages that then have no tag. --minimum counts all packages, --sample comes
after it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretrain.console import run_program
from pretrain.data.jsonl import read_lines, write_jsonl
from pretrain.errors import UserError
from pretrain.files import json_text
from pretrain.paths import path_argument

ENGLISH = ("-o", "Acquire::Languages=en")
DUMP = ("apt-cache", "dumpavail")
# dumpavail has no long descriptions: they stand in lists of their own, found by Description-md5.
# (`apt-cache search --full .` joins the two, and takes minutes.)
TRANSLATIONS = (
    "apt-get", "indextargets", *ENGLISH, "--format", "$(FILENAME)", "Created-By: Translations",
)  # fmt: skip
CAT = ("/usr/lib/apt/apt-helper", "cat-file")
UPDATE = "apt-get -o Acquire::Languages=en update"

_ITEM = re.compile(r"(?:\{[^{}]*\}|[^,{}])+")
_BRACES = re.compile(r"([^{}]*)\{([^{}]*)\}([^{}]*)")
_TAG = re.compile(r"[^\s:{},]+::[^\s{},]+")


@dataclass(frozen=True)
class Package:
    """What is used of a package's entry."""

    name: str
    text: str
    tags: tuple[str, ...]
    long: bool


def stanzas(lines: Iterable[str]) -> Iterator[dict[str, list[str]]]:
    """Fields of each entry: the first line's value, then the continuations without one space."""
    fields: dict[str, list[str]] = {}
    last: list[str] = []
    for line in lines:
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, []
        elif line[0] in " \t":
            last.append(line[1:].rstrip())
        else:
            name, _, value = line.partition(":")
            last = fields.setdefault(name, [])
            last[:] = [value.strip()]
    if fields:
        yield fields


def expand_tags(value: str) -> list[str]:
    """Tags of a field in its order: `devel::{a,b}, role::program` are three."""
    tags: list[str] = []
    for item in (found.strip() for found in _ITEM.findall(value)):
        braces = _BRACES.fullmatch(item)
        if braces:
            before, inner, after = braces.groups()
            tags += [f"{before}{part.strip()}{after}" for part in inner.split(",")]
        elif item:
            tags.append(item)
    return tags


def is_label(tag: str) -> bool:
    """Whether a tag says something of a package."""
    return bool(_TAG.fullmatch(tag)) and not tag.startswith("special::") and tag[-5:] != ":TODO"


def description(fields: dict[str, list[str]]) -> list[str]:
    """Lines of the description: the English one where it is there, " ." being an empty line."""
    lines = fields.get("Description-en") or fields.get("Description") or []
    text = "\n".join("" if line == "." else line for line in lines).strip()
    return text.split("\n") if text else []


def read_packages(lines: Iterable[str]) -> tuple[list[Package], Counter[str]]:
    """Packages with a description and a tag, each name once, and counts of the others.

    Long descriptions may stand before the packages as entries of their own.
    """
    packages: dict[str, Package] = {}
    seen: set[str] = set()
    counts: Counter[str] = Counter()
    english: dict[str, list[str]] = {}
    for fields in stanzas(lines):
        name = " ".join(fields.get("Package", []))
        md5 = "".join(fields.get("Description-md5", []))
        if md5 and "Version" not in fields:  # an entry of a list of long descriptions
            english[md5] = fields.get("Description-en", [])
            continue
        if md5 in english:
            fields.setdefault("Description-en", english[md5])
        if not name:
            continue
        counts["packages"] += 1
        tags = expand_tags(" ".join(fields.get("Tag", [])))
        text = description(fields)
        if name in seen:
            counts["duplicates"] += 1
        elif not tags:
            counts["without_tags"] += 1
        elif not text:
            counts["without_description"] += 1
        else:
            kept = tuple(sorted({tag for tag in tags if is_label(tag)}))
            counts["tags_placeholder"] += sum(not is_label(tag) for tag in tags)
            packages[name] = Package(name, "\n".join(text), kept, len(text) > 1)
        seen.add(name)
    return list(packages.values()), counts


def select(
    packages: Sequence[Package], minimum: int, sample: int | None
) -> tuple[list[Package], dict[str, int]]:
    """Packages with their frequent tags alone, a sample of them if asked for, and what went."""
    occurs = Counter(tag for package in packages for tag in package.tags)
    frequent = {tag for tag, count in occurs.items() if count >= minimum}
    kept = [
        Package(package.name, package.text, tags, package.long)
        for package in packages
        if (tags := tuple(tag for tag in package.tags if tag in frequent))
    ]
    dropped = {"tags_rare": len(occurs) - len(frequent), "left_without": len(packages) - len(kept)}
    if sample is not None:
        # Web addresses grow old; a sample that lies in a repository does without.
        names = (package.name for package in kept if "://" not in package.text)
        chosen = set(sorted(names, key=name_hash)[:sample])
        kept = [package for package in kept if package.name in chosen]
    return kept, dropped


def name_hash(name: str) -> str:
    """What a sample goes by: the names of the smallest values."""
    return hashlib.sha256(name.encode()).hexdigest()


def apt_lines() -> list[str]:
    """Entries of this machine's lists: long descriptions, where they are there, then packages."""
    packages = _run(DUMP)
    files = [name for name in _run(TRANSLATIONS) if name]
    return [*(_run((*CAT, *files)) if files else []), "", *packages]


def _run(command: Sequence[str]) -> list[str]:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        run = subprocess.run(command, capture_output=True, timeout=120, env=environment)
    except FileNotFoundError as error:
        raise UserError(
            f"{command[0]} is not installed; run this on Debian or Ubuntu, or give --packages "
            f"FILE, written there by {' '.join(DUMP)}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{command[0]} did not end in 120 s; run {UPDATE}, try again") from error
    if run.returncode:
        told = run.stderr.decode(errors="replace").strip()[-300:]
        raise UserError(f"{' '.join(command[:2])} failed: {told}; run {UPDATE}")
    return run.stdout.decode("utf-8", errors="replace").split("\n")


def make(
    out: Path, minimum: int = 50, packages: Path | None = None, sample: int | None = None
) -> dict[str, Any]:
    """Write the labelled texts. Returns the counts."""
    lines = (line for _, line in read_lines(packages)) if packages else iter(apt_lines())
    found, counts = read_packages(lines)
    if not found:
        raise UserError(
            f"{packages or 'apt-cache'} has {counts['packages']} packages and none with tags and "
            f"a description; run {UPDATE} on Debian (other lists may have no Tag fields)"
        )
    kept, dropped = select(found, minimum, sample)
    if not kept:
        raise UserError(f"no tag has {minimum} packages; choose a smaller --minimum")
    write_jsonl(out, ({"text": package.text, "labels": package.tags} for package in kept))
    sizes = Counter(len(package.tags) for package in kept)
    texts = Counter(package.text for package in kept)
    return {
        "out": str(out),
        "texts": len(kept),
        "tags": len({tag for package in kept for tag in package.tags}),
        "labels_per_text": {str(size): sizes[size] for size in sorted(sizes)},
        "labels": sum(size * count for size, count in sizes.items()),
        "long_descriptions": sum(package.long for package in kept),
        "texts_repeated": len(kept) - len(texts),
        "bytes": out.stat().st_size,
        "packages_read": counts["packages"],
        "dropped": {
            name: counts[name]
            for name in ("duplicates", "without_tags", "without_description", "tags_placeholder")
        }
        | dropped,
    }


def _report(report: dict[str, Any]) -> str:
    sizes = ", ".join(f"{size}: {count:,}" for size, count in report["labels_per_text"].items())
    dropped = ", ".join(f"{name} {count:,}" for name, count in report["dropped"].items())
    lines = [
        f"{report['texts']:,} texts of {report['packages_read']:,} packages, {report['tags']} "
        f"tags, {report['labels'] / report['texts']:.2f} labels per text",
        f"labels per text: {sizes}",
        f"long descriptions: {report['long_descriptions']:,}; texts that another package has "
        f"too: {report['texts_repeated']:,}",
        f"dropped: {dropped}",
        f"{report['bytes']:,} bytes in {report['out']}",
    ]
    if not report["long_descriptions"]:
        lines.append(f"the lists have short descriptions only; for the long ones run {UPDATE}")
    return "\n".join(lines)


def positive(text: str) -> int:
    """An option's whole number of 1 or more."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Make the file and print the counts. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools.data.debtags", description="Labelled texts from Debian"
    )
    parser.add_argument("--out", type=path_argument, required=True, help="JSONL file to write")
    parser.add_argument(
        "--minimum", type=positive, default=50, help="packages that a tag must have (50)"
    )
    parser.add_argument(
        "--packages", type=path_argument, help="read this list instead of apt-cache's"
    )
    parser.add_argument(
        "--sample", type=positive, help="keep so many texts, by the SHA-256 of the package's name"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    try:
        report = make(options.out, options.minimum, options.packages, options.sample)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json_text(report) if options.json else _report(report))
    return 0


if __name__ == "__main__":
    run_program(main)
