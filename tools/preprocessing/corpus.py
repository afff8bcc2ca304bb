"""From units to a corpus: what may be written, what is there already, and the last steps."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

from pretrain.data.indexed import (
    IndexLayout,
    bin_path,
    idx_path,
    manifest_path,
    token_type,
)
from pretrain.data.tokenizers import TextTokenizer
from pretrain.errors import UserError
from pretrain.files import json_text, written_whole
from pretrain.locks import locked
from tools.preprocessing.checksums import checksum
from tools.preprocessing.chunks import Unit
from tools.preprocessing.coordinator import Phase, Task
from tools.preprocessing.shards import Counts
from tools.preprocessing.sources import Source
from tools.preprocessing.work import Settings, bad_lines

PACKAGES = ("mifirst", "numpy", "sentencepiece", "sentencex", "tokenizers")
SHOWN_BAD = 3
LOCK = "lock"
FINISHED = "finished"
"""Is there once nothing but names are missing."""


def parts_folder(prefix: Path) -> Path:
    """Where units are kept until the corpus is whole."""
    return prefix.with_name(f"{prefix.name}.parts")


def bad_path(prefix: Path) -> Path:
    """Where lines are named that could not be used."""
    return Path(f"{prefix}.bad.jsonl")


@contextmanager
def claimed(prefix: Path, plan: dict[str, Any], overwrite: bool) -> Iterator[Path]:
    """The folder of units, which is this command's alone until it ends.

    Raises:
        UserError: something is there that would be overwritten, or another command is at work.
    """
    folder = parts_folder(prefix)
    finals = (bin_path(prefix), idx_path(prefix), bad_path(prefix), manifest_path(prefix))
    there = [path for path in finals if path.exists()]
    if there and not overwrite and not (folder / FINISHED).exists():
        raise UserError(
            f"{there[0]} is there already; name another --output, or give --overwrite to replace it"
        )
    busy = f"{folder} is filled by another command,"
    with ExitStack() as held:
        try:
            held.enter_context(locked(folder / LOCK, busy, "wait for it, or name another --output"))
        except OSError as error:
            raise UserError(f"--output {prefix}: cannot be written ({error.strerror})") from None
        _same_plan(folder, plan, overwrite)
        yield folder


def described(
    settings: Settings, tokenizer: TextTokenizer, sources: Sequence[Source], unit_bytes: int
) -> dict[str, Any]:
    """All that decides the corpus, as JSON values."""
    return {
        "tokenizer": tokenizer.fingerprint,
        "sentences": settings.sentences,
        "end_of_document": settings.end,
        **asdict(settings.rules),
        "unit_bytes": unit_bytes,
        "sources": [asdict(source) for source in sources],
    }


def tokenizing(units: Sequence[Unit]) -> Phase:
    """The first phase: a task a unit, the large ones first, as the last to end should be small."""
    order = sorted(units, key=lambda unit: (-(unit.weight // (2 * unit.piece)), unit.number))
    tasks = [Task(unit.number, "tokenize", (unit,)) for unit in order]
    return Phase("tokenizing", sum(unit.weight for unit in units), tasks)


def sums(results: Sequence[Counts]) -> list[Counts]:
    """Counts before each unit, and of all."""
    names = ("tokens", "sequences", "documents", "text_bytes", "bad", "blank", "lines")
    columns = [
        list(accumulate((getattr(counts, name) for counts in results), initial=0)) for name in names
    ]
    return [
        Counts(number, **dict(zip(names, row, strict=True)))
        for number, row in enumerate(zip(*columns, strict=True))
    ]


class Assembly:
    """Puts units together.

    Args:
        vocabulary: number of ids.
    """

    def __init__(
        self, folder: Path, units: Sequence[Unit], vocabulary: int, bad_share: float
    ) -> None:
        self.folder, self.units, self.bad_share = folder, units, bad_share
        self.dtype = token_type(vocabulary)
        self.results: list[Counts] = []

    def merging(self, results: list[Counts]) -> Phase:
        """The second phase, once all is counted.

        Raises:
            UserError: nothing is left, or too much is bad.
        """
        self.results = results
        before = sums(results)
        total = before[-1]
        if total.bad > self.bad_share * max(total.records, 1):
            raise UserError(self._too_bad(total))
        if not total.documents:
            raise UserError(
                f"{self.units[0].source.path} and {len(self._sources()) - 1} more: no document "
                f"with a token ({total.bad:,} bad, {total.blank:,} blank); name files with text"
            )
        layout = IndexLayout(self.dtype, total.sequences, total.documents)
        try:
            self._make("bin", total.tokens * self.dtype.itemsize, b"", 0)
            self._make("idx", layout.size, layout.header(), layout.boundaries)
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror})") from None
        tasks = [
            Task(counts.number, "merge", (counts, before[counts.number], layout))
            for counts in results
        ]
        return Phase("merging", sum(counts.sizes["tokens"] for counts in results), tasks)

    def manifest(self, settings: Settings, tokenizer: TextTokenizer) -> dict[str, Any]:
        """What is known of the corpus."""
        total = sums(self.results)[-1]
        return {
            "documents": total.documents,
            "sequences": total.sequences,
            "tokens": total.tokens,
            "text_bytes": total.text_bytes,
            "bad": total.bad,
            "blank": total.blank,
            "dtype": self.dtype.name,
            "sentences": settings.sentences,
            "end_of_document": settings.end,
            **asdict(settings.rules),
            "tokenizer": {
                "file": str(settings.tokenizer),
                "kind": type(tokenizer).__name__,
                "size": tokenizer.size,
                "fingerprint": tokenizer.fingerprint,
            },
            "checksum": f"SHA-256 over the SHA-256 of each {self.units[0].piece} bytes",
            "sources": [self._described(source) for source in self._sources()],
            "versions": {"python": platform.python_version(), **_versions()},
        }

    def write_bad(self) -> None:
        """The side file, into the folder."""
        target = self.folder / "bad"
        with target.open("w", encoding="utf-8", errors="backslashreplace") as file:
            for counts, line in self._line_numbers():
                if counts.bad:
                    for bad in bad_lines(self.folder, counts):
                        record = {
                            "file": self.units[counts.number].source.path,
                            "line": line + bad.line + 1,
                            "why": bad.why,
                            "start": bad.start,
                        }
                        file.write(json_text(record, ascii_only=False) + "\n")

    def _make(self, name: str, size: int, header: bytes, first_boundary: int) -> None:
        """A file of its final size; what was moved into it before stays."""
        with os.fdopen(os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            file.truncate(size)
            os.pwrite(file.fileno(), header, 0)
            if first_boundary:
                os.pwrite(file.fileno(), bytes(8), first_boundary)

    def _line_numbers(self) -> Iterator[tuple[Counts, int]]:
        """Each unit's counts, and the number of lines of its file before it."""
        lines, path = 0, ""
        for counts in self.results:
            unit = self.units[counts.number]
            lines, path = (lines if unit.source.path == path else 0), unit.source.path
            yield counts, lines
            lines += counts.lines

    def _sources(self) -> list[Source]:
        return list(dict.fromkeys(unit.source for unit in self.units))

    def _described(self, source: Source) -> dict[str, Any]:
        mine = [counts for counts in self.results if self.units[counts.number].source == source]
        total = sums(mine)[-1]
        return {
            "path": source.path,
            "bytes": source.size,
            "checksum": checksum(digest for counts in mine for digest in counts.digests),
            "documents": total.documents,
            "sequences": total.sequences,
            "tokens": total.tokens,
            "bad": total.bad,
            "blank": total.blank,
        }

    def _too_bad(self, total: Counts) -> str:
        self.write_bad()
        with (self.folder / "bad").open(encoding="utf-8") as file:
            first = [json.loads(line) for line, _ in zip(file, range(SHOWN_BAD), strict=False)]
        shown = "\n".join(f"  {bad['file']}, line {bad['line']}: {bad['why']}" for bad in first)
        return (
            f"{total.bad:,} of {total.records:,} records are bad, more than --bad-share "
            f"{self.bad_share:g} allows; mend them, or raise it. All of them: "
            f"{self.folder / 'bad'}. The first:\n{shown}"
        )


def finish(folder: Path, prefix: Path) -> None:
    """Give the files their names; when stopped in the middle, calling it again goes on."""
    (folder / FINISHED).touch()
    targets = {
        "bin": bin_path(prefix),
        "bad": bad_path(prefix),
        "manifest": manifest_path(prefix),
        "idx": idx_path(prefix),
    }
    for name, target in targets.items():
        if (folder / name).exists():
            os.replace(folder / name, target)
    shutil.rmtree(folder)


def _same_plan(folder: Path, plan: dict[str, Any], overwrite: bool) -> None:
    """Keep the units of an earlier command that had the same plan."""
    path = folder / "plan"
    if path.exists():
        earlier = json.loads(path.read_text())
        if earlier == plan:
            return
        changed = [name for name in plan if earlier.get(name) != plan[name]]
        if not overwrite:
            raise UserError(
                f"{folder} holds unfinished work of another command, with another "
                f"{', '.join(changed)}; give that command again, or --overwrite to begin anew"
            )
        for file in folder.iterdir():
            if file.name != LOCK:
                file.unlink()
    with written_whole(path) as beside:
        beside.write_text(json_text(plan))


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
