"""A fault campaign: runs are hurt, started again, and have to end as if nothing had been.

    python -m tools.bench.faults [--rounds 104] [--seed 0] [--kinds K,L] [--out DIR] [--json FILE]

Each round hurts one run of a small model on two ranks at a random moment, in one of several ways
and layouts in turn, and starts it again until it is complete. It is lost unless weights and moments
of the last checkpoint are those of an undisturbed run, bit for bit. Ends with 1 if a round is lost.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pretrain.console import run_program
from pretrain.files import json_text, write_text
from pretrain.paths import path_argument
from tools.bench.fault_kinds import KINDS
from tools.bench.fault_runs import LAYOUTS, Layout, ended, state_of


@dataclass(frozen=True)
class Round:
    """What came of one.

    Attributes:
        kind, layout: what was done to what.
        starts: of the run after the fault until it was complete.
        seconds: in all.
        problem: why it is lost; empty if it is not.
    """

    kind: str
    layout: str
    starts: int
    seconds: float
    problem: str = ""


def undisturbed(layout: Layout, folder: Path) -> dict[str, str]:
    """The state that a run ends in when it is left alone."""
    logs = folder / "logs"
    logs.mkdir(parents=True)
    ended(folder / "run", layout, logs)
    return state_of(folder / "run")


def play(
    kind: str, layout: Layout, expected: dict[str, str], folder: Path, dice: random.Random
) -> Round:
    """One round; what it leaves is removed unless it is lost.

    Raises:
        PermissionError: this kind cannot be done here.
    """
    started = time.monotonic()
    logs, directory = folder / "logs", folder / "run"
    logs.mkdir(parents=True)
    starts, problem = 0, ""
    try:
        KINDS[kind](directory, layout, logs, dice)
        starts = ended(directory, layout, logs)
        found = state_of(directory)
        if found != expected:
            different = [name for name in expected if found.get(name) != expected[name]]
            problem = f"state differs in {', '.join(different)}; see {folder}"
    except RuntimeError as error:
        problem = str(error)
    finally:
        if directory.is_mount():
            subprocess.run(["umount", "-l", str(directory)], check=False)
    if not problem:
        shutil.rmtree(folder)
    return Round(kind, layout.name, starts, time.monotonic() - started, problem)


def campaign(
    rounds: int, seed: int, folder: Path, wanted: Sequence[str] = tuple(KINDS)
) -> tuple[list[Round], dict[str, str]]:
    """All rounds, kinds and layouts in turn; and kinds that could not be done, with the reason."""
    dice = random.Random(seed)
    expected: dict[str, dict[str, str]] = {}
    unable: dict[str, str] = {}
    done: list[Round] = []
    with tqdm(total=rounds, unit="round", file=sys.stderr) as bar:
        for number in range(rounds):
            kinds = [kind for kind in wanted if kind not in unable]
            if not kinds:
                break
            kind = kinds[number % len(kinds)]
            layout = LAYOUTS[(number // len(kinds)) % len(LAYOUTS)]
            if layout.name not in expected:
                bar.set_postfix_str("undisturbed run")
                expected[layout.name] = undisturbed(layout, folder / f"alone-{len(expected)}")
            bar.set_postfix_str(kind)
            try:
                done.append(
                    play(kind, layout, expected[layout.name], folder / f"round-{number}", dice)
                )
            except PermissionError as error:
                unable[kind] = str(error)
                shutil.rmtree(folder / f"round-{number}", ignore_errors=True)
            if done and done[-1].problem:
                bar.write(f"LOST: {done[-1]}", file=sys.stderr)
            bar.update()
    return done, unable


def summary(done: Sequence[Round], unable: dict[str, str], seed: int) -> dict[str, Any]:
    """What `--json` writes."""

    def of(rounds: Sequence[Round]) -> dict[str, Any]:
        return {
            "rounds": len(rounds),
            "lost": sum(bool(each.problem) for each in rounds),
            "starts": sum(each.starts for each in rounds),
            "seconds": round(sum(each.seconds for each in rounds), 1),
        }

    return {
        **of(done),
        "seed": seed,
        "kinds": {
            kind: of([each for each in done if each.kind == kind])
            for kind in KINDS
            if any(each.kind == kind for each in done)
        },
        "layouts": {
            layout.name: of([each for each in done if each.layout == layout.name])
            for layout in LAYOUTS
        },
        "not_run": unable,
        "problems": [each.problem for each in done if each.problem],
    }


def table(found: dict[str, Any]) -> str:
    """The same for people, in Markdown."""
    lines = ["| fault | rounds | starts after it | lost |", "|---|---|---|---|"]
    for kind, values in found["kinds"].items():
        lines.append(f"| {kind} | {values['rounds']} | {values['starts']} | {values['lost']} |")
    lines.append(f"| all | {found['rounds']} | {found['starts']} | {found['lost']} |")
    lines += [f"not run: {kind}: {reason}" for kind, reason in found["not_run"].items()]
    return "\n".join([*lines, *found["problems"]])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign. Returns 1 if a round is lost."""
    parser = argparse.ArgumentParser(
        prog="tools.bench.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=104)
    parser.add_argument("--seed", type=int, default=0, help="of kinds' moments and places")
    parser.add_argument("--kinds", help="of faults, with commas between them; all if not given")
    parser.add_argument(
        "--out", type=path_argument, help="folder for the runs; a temporary one if not given"
    )
    parser.add_argument("--json", type=path_argument, help="write the figures to this file")
    options = parser.parse_args(argv)
    folder = options.out or Path(tempfile.mkdtemp(prefix="faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    kinds = [name.strip() for name in options.kinds.split(",")] if options.kinds else list(KINDS)
    if unknown := sorted(set(kinds) - set(KINDS)):
        parser.error(f"--kinds {unknown[0]}: is none of {', '.join(KINDS)}")
    done, unable = campaign(options.rounds, options.seed, folder, kinds)
    found = summary(done, unable, options.seed)
    print(table(found))
    if options.json:
        write_text(options.json, json_text(found, indent=2) + "\n")
    if not found["lost"] and options.out is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if found["lost"] or not done else 0


if __name__ == "__main__":
    run_program(main)
