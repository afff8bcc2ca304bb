"""What a stage is told, and the JSON file that it writes with every figure that it gets."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pretrain.files import json_text, write_text

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""


@dataclass(frozen=True)
class Options:
    """What a stage is told.

    Attributes:
        out: folder of all stages' files.
        device: `cuda` or `cpu`.
        tiny: shapes that a CPU runs in seconds; their figures mean nothing.
        seconds: after which the stage begins nothing new.
        earlier: folder with the files of an earlier call, whose figures are taken over.
        cells: parts of names of the cells that `speed` is to measure; empty for all.
        started: `time.monotonic()` when the stage began.
    """

    out: Path
    device: str = "cuda"
    tiny: bool = False
    seconds: float = 600.0
    earlier: Path | None = None
    cells: tuple[str, ...] = ()
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds that are left to this stage."""
        return self.seconds - (time.monotonic() - self.started)

    def read(self, stage: str) -> dict[str, Any]:
        """A stage's figures: of this call, else of the earlier one; empty where there are none."""
        for folder in (self.out, self.earlier):
            if folder is not None and (folder / f"{stage}.json").is_file():
                found: dict[str, Any] = json.loads((folder / f"{stage}.json").read_text("utf-8"))
                return found
        return {}


class Report:
    """A stage's figures by part. The file is there from the start and is whole at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = {"status": "running", "parts": {}}
        self.write()

    @classmethod
    def of(cls, path: Path) -> Report:
        """The report in a file, to add to; an empty one where there is no file."""
        values = json.loads(path.read_text("utf-8")) if path.is_file() else None
        report = cls(path)
        if values is not None:
            report.values = values
            report.write()
        return report

    def write(self) -> None:
        """Replace the file."""
        write_text(self.path, json_text(self.values, indent=1) + "\n")

    def add(self, part: str, figures: Mapping[str, Any]) -> None:
        """Add figures to a part, and write."""
        self.values["parts"].setdefault(part, {}).update(figures)
        self.write()

    @contextmanager
    def part(self, name: str) -> Iterator[dict[str, Any]]:
        """A part of the stage: what is put into the dictionary is written when it ends. An error
        is written as well and goes no further, so that the next part runs."""
        started = time.monotonic()
        figures: dict[str, Any] = {}
        print(f"{self.path.stem}: {name}", flush=True)
        try:
            yield figures
        except Exception as error:
            traceback.print_exc()
            figures["error"] = f"{type(error).__name__}: {error}"[:2000]
        figures["seconds"] = round(time.monotonic() - started, 2)
        self.add(name, figures)

    def end(self, status: str = "") -> None:
        """Close the file: `ok`, or `failed` where a part has an error or did not hold."""
        parts = self.values["parts"].values()
        bad = any("error" in part or part.get("holds") is False for part in parts)
        self.values["status"] = status or ("failed" if bad or not parts else "ok")
        self.write()


def python(arguments: Sequence[str], seconds: float, folder: Path = ROOT) -> str:
    """Run a Python program of the repository. Returns what it printed.

    Raises:
        RuntimeError: it ended with an error, whose last lines the message has.
        subprocess.TimeoutExpired: it took longer than `seconds`.
    """
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        timeout=max(1.0, seconds),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise RuntimeError(f"{' '.join(arguments[:4])} ended with {done.returncode}: {said}")
    return done.stdout
