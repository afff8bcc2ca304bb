"""What a checkpoint, or every checkpoint of a run, holds, and whether it is whole.

    python -m tools.inspect_checkpoint runs/NAME [--no-checksums] [--json]
    python -m tools.inspect_checkpoint runs/NAME/checkpoints/step-00001000

Ends with 1 where one is incomplete or damaged.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pretrain.console import run_program
from pretrain.errors import UserError
from pretrain.files import json_text
from pretrain.paths import path_argument
from pretrain.run_files import CHECKPOINTS, MANIFEST
from pretrain.training.checkpoint.manifest import (
    CheckpointError,
    check_files,
    newest_first,
    read_manifest,
    step_of,
)


def folders_in(path: Path) -> list[Path]:
    """The checkpoint at `path`, or those of the run at `path`, the oldest first.

    Raises:
        UserError: there are none.
    """
    if step_of(path) is not None or (path / MANIFEST).exists():
        return [path]
    found = list(newest_first(path / CHECKPOINTS)) or list(newest_first(path))
    if not found:
        raise UserError(
            f"{path}: holds no checkpoints; name a run's folder, or a folder such as step-00001000"
        )
    return found[::-1]


def describe(folder: Path, checksums: bool) -> dict[str, Any]:
    """What a checkpoint says of itself; `problem` where it is not whole.

    Args:
        checksums: read all files, too.
    """
    try:
        manifest = read_manifest(folder)
        found: dict[str, Any] = {
            "folder": str(folder),
            "step": manifest.step,
            "updates": manifest.updates,
            "tokens": manifest.tokens,
            "finished": manifest.finished,
            "run": manifest.run,
            "parent": manifest.parent and asdict(manifest.parent),
            "layout": manifest.layout,
            "selection": manifest.fingerprint,
            "files": len(manifest.files),
            "bytes": sum(file.bytes for file in manifest.files.values()),
        }
        check_files(folder, manifest, checksums)
    except CheckpointError as error:
        return {"folder": str(folder), "problem": str(error)}
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is there. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="tools.inspect_checkpoint", description=__doc__)
    parser.add_argument("path", type=path_argument, help="folder of a run or of a checkpoint")
    parser.add_argument("--no-checksums", action="store_true", help="look at sizes only")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    options = parser.parse_args(argv)
    try:
        found = [describe(folder, not options.no_checksums) for folder in folders_in(options.path)]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json_text(found, indent=1))
    else:
        print("\n\n".join(_text(one) for one in found))
    return int(any("problem" in one for one in found))


def _descent(found: dict[str, Any]) -> list[str]:
    if not found["run"]:
        return []
    parent = found["parent"]
    begun = "its first" if parent is None else f"after step {parent['step']:,}"
    other = f" of run {parent['run']}" if parent and parent["run"] != found["run"] else ""
    return [f"  run {found['run']}, {begun}{other}"]


def _text(found: dict[str, Any]) -> str:
    if "problem" in found:
        return f"{found['folder']}\n  not whole: {found['problem']}"
    lines = [
        found["folder"],
        f"  whole, written {found['finished']}",
        f"  {found['step']:,} steps, {found['updates']:,} updates, {found['tokens']:,} tokens",
        f"  {found['layout']}",
        *_descent(found),
        f"  selection {found['selection']}",
        f"  {found['files']} files, {found['bytes'] / 2**20:,.1f} MiB",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run_program(main)
