"""Documentation of Debian packages as JSON lines, one page a document.

    apt-get update
    python -m tools.data.debian_docs --out docs.jsonl debian-policy git-doc python3.11-doc

Packages are downloaded and unpacked into a folder that is removed again; nothing is installed.
Pages are the .html and .txt files below usr/share/doc, also as .gz: of HTML the text of its main
part, without scripts, navigation and markup. Left out are change logs, copyright files, indexes,
the sources of pages, pages of fewer than --minimum characters, and pages that were there already.
Pages stand in the order of the SHA-256 of their text, so that each part of the file is like the
others.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from pretrain.console import run_program
from pretrain.data.jsonl import write_jsonl
from pretrain.errors import UserError
from pretrain.files import json_text
from pretrain.paths import path_argument

PAGE = re.compile(r"\.(html?|txt)(\.gz)?$")
LEFT_OUT = re.compile(
    r"(^|/)(_sources|_static|_images|changelog|copyright|NEWS|genindex|search|py-modindex)",
    re.IGNORECASE,
)
SILENT = {"script", "style", "nav", "header", "footer", "head", "form", "button", "svg", "noscript"}
NAVIGATION = re.compile(
    r"\b(sphinxsidebar|related|navheader|navfooter|headerlink|toc|footer|wy-breadcrumbs)\b"
)
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
BREAKS = {"br", "tr", "dt", "dd", "li", "pre"}
PARAGRAPHS = {
    "p", "div", "section", "article", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "table",
    "blockquote",
}  # fmt: skip


class _Page(HTMLParser):
    """The text of a page; blank lines part paragraphs."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.open: list[tuple[str, bool]] = []
        """Elements that are open, and whether each is silent or within one that is."""
        self.verbatim = 0

    @property
    def silent(self) -> bool:
        return bool(self.open) and self.open[-1][1]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            named = " ".join(value or "" for key, value in attributes if key in ("class", "role"))
            hidden = tag in SILENT or bool(NAVIGATION.search(named))
            self.open.append((tag, self.silent or hidden))
        self.verbatim += tag == "pre"
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in (name for name, _ in self.open):  # what it leaves open ends with it
            while self.open.pop()[0] != tag:
                pass
        self.verbatim -= tag == "pre" and self.verbatim > 0
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.parts.append(data if self.verbatim else re.sub(r"\s+", " ", data))

    def _break(self, tag: str) -> None:
        if tag in PARAGRAPHS:
            self.parts.append("\n\n")
        elif tag in BREAKS:
            self.parts.append("\n")


def text_of(html: str) -> str:
    """The text of an HTML page, its paragraphs parted by blank lines."""
    page = _Page()
    page.feed(html)
    page.close()
    return tidy("".join(page.parts))


def tidy(text: str) -> str:
    """Without space at the ends of lines, and with at most one blank line in a row."""
    lines = (line.rstrip() for line in text.replace("\r", "").replace("¶", "").split("\n"))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"(?m)^ (?=\S)", "", "\n".join(lines))).strip()


def unpacked(packages: Sequence[str], folder: Path) -> None:
    """Download packages and unpack them into a folder.

    Raises:
        UserError: apt does not know one, or cannot download it.
    """
    _run(["apt-get", "-o", "APT::Sandbox::User=root", "download", *packages], folder)
    for archive in sorted(folder.glob("*.deb")):
        _run(["dpkg-deb", "-x", archive.name, "."], folder)
        archive.unlink()


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UserError(f"{command[0]} is not installed; run this on Debian or Ubuntu") from error
    if done.returncode:
        told = done.stderr.strip().splitlines()[-1:]
        raise UserError(
            f"{command[0]} failed: {' '.join(told)}; run apt-get update, or mend the "
            "packages' names"
        )


def pages(folder: Path, minimum: int, dropped: Counter[str]) -> Iterator[str]:
    """Texts of the pages in a folder, in the order of their hashes."""
    root = folder / "usr" / "share" / "doc"
    found: dict[str, str] = {}
    paths = [path for path in sorted(root.rglob("*")) if PAGE.search(path.name) and path.is_file()]
    for path in tqdm(paths, desc="pages", unit="page", disable=None):
        if path.is_symlink() or LEFT_OUT.search(str(path.relative_to(root))):
            dropped["indexes and sources"] += 1
            continue
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        raw = content.decode("utf-8", errors="replace")
        text = text_of(raw) if ".htm" in path.name else tidy(raw)
        key = hashlib.sha256(text.encode()).hexdigest()
        if len(text) < minimum or "\ufffd" in text:
            dropped["short or not UTF-8"] += 1
            continue
        dropped["repeated"] += key in found
        found[key] = text
    for key in sorted(found):
        yield found[key]


def make(out: Path, packages: Sequence[str], minimum: int = 400) -> dict[str, Any]:
    """Write the pages of these packages. Returns the counts.

    Raises:
        UserError: a package cannot be had, or holds no page.
    """
    dropped: Counter[str] = Counter()
    with TemporaryDirectory() as temporary:
        unpacked(packages, Path(temporary))
        count = write_jsonl(
            out, ({"text": text} for text in pages(Path(temporary), minimum, dropped))
        )
    if not count:
        raise UserError(f"{', '.join(packages)}: no page of text; name packages ending in -doc")
    return {"out": str(out), "documents": count, "bytes": out.stat().st_size, "dropped": dropped}


def main(argv: Sequence[str] | None = None) -> int:
    """Make the file and print the counts. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.data.debian_docs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("packages", nargs="+", metavar="PACKAGE", help="of Debian, such as debian-policy")
    add("--out", type=path_argument, required=True, help=".jsonl file to write")
    add("--minimum", type=int, default=400, help="characters of a page (default: 400)")
    add("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    try:
        report = make(options.out, options.packages, options.minimum)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json_text(report))
    else:
        left_out = ", ".join(f"{count:,} {why}" for why, count in report["dropped"].items())
        print(f"{report['documents']:,} documents, {report['bytes']:,} bytes in {report['out']}")
        print(f"left out: {left_out or 'nothing'}")
    return 0


if __name__ == "__main__":
    run_program(main)
