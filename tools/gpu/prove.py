"""Proof on a GPU, stage by stage, in one call of at most nine minutes.

    bash tools/gpu/prove.sh --out DIR [--wheels DIR]
    python -m tools.gpu.prove --out DIR [--only STAGE,...] [--minutes 9] [--earlier DIR]
    python -m tools.gpu.prove --out DIR --device cpu --tiny

Stages:

    start       environment; rates of matrix products and copies; dry run of gpt2_124m; the smoke
                configuration to its end
    parity      20 steps in fp32 and bf16 against a CPU's; waits for the device; a run that is
                killed and goes on, to the bit
    selection   the step's wait for selection; pairs counted per second
    kernels     attention by backend, the loss by implementation, products in fp8
    speed       tokens/s, MFU and memory of 124M, 350M and 1.3B, beside plain PyTorch and
                Hugging Face's Trainer
    memory      the planner's memory and step time beside what `speed` has measured

Each stage is a process of its own with a time limit, and writes DIR/STAGE.json with every figure
that it gets; one that fails or is stopped does not keep the next from running. `speed` comes late
and takes what time is left; `--only speed,memory --earlier DIR` measures the rest of it later, and
takes over what the files of DIR have. The end is a summary in Markdown, in DIR/summary.md too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pretrain.console import run_program
from pretrain.paths import path_argument
from tools.gpu.report import ROOT, Options, Report
from tools.gpu.tables import summary

GRACE = 5.0
"""Seconds that a stage has beyond its limit to end by itself."""


PATIENCE = 4.0
"""What is tiny is to come to its end on a slow and busy machine too."""


@dataclass(frozen=True)
class Stage:
    """A stage, in the module of its name.

    Attributes:
        seconds: that it may take at most; None for all that is left.
    """

    name: str
    seconds: float | None


STAGES = (
    Stage("start", 110.0),
    Stage("parity", 80.0),
    Stage("selection", 50.0),
    Stage("kernels", 60.0),
    Stage("speed", None),
    Stage("memory", 20.0),
)


def limits(stages: Sequence[Stage], number: int, left: float, tiny: bool = False) -> float:
    """Seconds of stage `number` where `left` are left: those behind it keep theirs if it has no
    limit of its own. With `tiny` it may take PATIENCE times its own, wherever it runs."""
    own = stages[number].seconds
    if own is not None:
        return min(own * (PATIENCE if tiny else 1.0), left)
    behind = sum((stage.seconds or 0.0) + GRACE for stage in stages[number + 1 :])
    return left - behind - GRACE


def run_stage(name: str, options: Options, log: Path) -> None:
    """Run a stage in a process group of its own, and end it at its limit."""
    file = options.out / f"{name}.json"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tools.gpu.stage", name, *arguments(options)]
    started = time.monotonic()
    with log.open("a", encoding="utf-8") as lines:
        lines.write(f"\n=== {name}\n")
        lines.flush()
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=lines, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(options.seconds + GRACE)
            status = "" if code == 0 else f"ended with {code}"
        except subprocess.TimeoutExpired:
            status = f"stopped after {options.seconds:.0f} s"
        finally:
            _end_group(process)
    report = Report.of(file)
    if status:
        report.values["ended"] = status
        report.end("failed")
    report.values["seconds"] = round(time.monotonic() - started, 1)
    report.write()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def arguments(options: Options) -> list[str]:
    """The options as a stage's process takes them."""
    given = ["--out", str(options.out), "--device", options.device]
    given += ["--seconds", f"{options.seconds:.1f}"]
    if options.tiny:
        given.append("--tiny")
    if options.earlier is not None:
        given += ["--earlier", str(options.earlier)]
    if options.cells:
        given += ["--cells", ",".join(options.cells)]
    return given


def chosen(only: str) -> list[Stage]:
    """The named stages in their usual order; all of them for an empty text.

    Raises:
        ValueError: a name is not known.
    """
    names = [name.strip() for name in only.split(",") if name.strip()]
    known = [stage.name for stage in STAGES]
    for name in names:
        if name not in known:
            raise ValueError(f"--only {name}: expected some of {', '.join(known)}")
    return [stage for stage in STAGES if not names or stage.name in names]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options that stages take too."""
    add = parser.add_argument
    add(
        "--out",
        type=path_argument,
        required=True,
        help="folder for the figures, the log and the summary",
    )
    add("--device", choices=["cuda", "cpu"], default="cuda")
    add("--tiny", action="store_true", help="shapes that a CPU runs in seconds")
    add(
        "--earlier",
        type=path_argument,
        help="folder of an earlier call whose figures are taken over",
    )
    add("--cells", default="", help="cells of `speed`, by parts of names: 350M@1024,plain")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stages and print the summary. Returns 0 where all of them are ok, else 1; 2 for
    options that are refused."""
    parser = argparse.ArgumentParser(prog="tools.gpu.prove", allow_abbrev=False)
    add_options(parser)
    parser.add_argument("--only", default="", help="stages, with commas; all if not given")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything together")
    given = parser.parse_args(argv)
    try:
        stages = chosen(given.only)
        if given.minutes <= 0:
            raise ValueError(f"--minutes {given.minutes}: expected a number above 0")
        if given.earlier is not None and not given.earlier.is_dir():
            raise ValueError(f"--earlier {given.earlier}: expected a folder of an earlier call")
        given.out.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    out = given.out.resolve()
    earlier = None if given.earlier is None else given.earlier.resolve()
    end = time.monotonic() + 60.0 * given.minutes
    everything_ok = True
    for number, stage in enumerate(stages):
        seconds = limits(stages, number, end - time.monotonic() - GRACE, given.tiny)
        cells = tuple(part for part in given.cells.split(",") if part)
        options = Options(out, given.device, given.tiny, seconds, earlier, cells)
        if seconds <= 0:
            report = Report(out / f"{stage.name}.json")
            report.values["ended"] = "no time was left"
            report.end("failed")
        else:
            run_stage(stage.name, options, out / "prove.log")
        found = options.read(stage.name)
        everything_ok &= found["status"] == "ok"
        print(f"{stage.name:<10} {found['status']:<7} {found.get('seconds', 0):6.1f} s", flush=True)
        text = summary(Options(out, given.device, given.tiny, earlier=earlier))
        (out / "summary.md").write_text(text, encoding="utf-8")
    print(f"\n{text}")
    return 0 if everything_ok else 1


if __name__ == "__main__":
    run_program(main)
