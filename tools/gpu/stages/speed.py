"""Tokens/s, MFU and memory of each size, side by side, the telling ones first."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any

from pretrain.files import json_text
from pretrain.model.flops import FORMULA, model_cost, peak_flops
from tools.gpu.cells import Cell
from tools.gpu.report import ROOT, Options, Report
from tools.gpu.sizes import SEQUENCES, SIZES

ORDER = ("350M", "1.3B", "124M")
USUAL = ("ours", "ours_compiled", "plain_compiled", "hugging_face")
LONGEST = {False: 90.0, True: 240.0}
"""Seconds of one cell; tiny ones run where there is no hurry."""


def cells(options: Options) -> list[Cell]:
    """All cells, in the order in which they are measured."""
    device, tiny = options.device, options.tiny
    short, long = SEQUENCES

    def of(size: str, sequence: int, *sides: str) -> list[Cell]:
        seconds = 0.05 if tiny else 4.0
        return [Cell(size, sequence, side, device, tiny, seconds=seconds) for side in sides]

    found = [cell for size in ORDER for cell in of(size, short, *USUAL)]
    found += of("124M", short, "plain_compiled_whole")
    found += [cell for size in ORDER for cell in of(size, long, *USUAL)]
    found += of("1.3B", long, "ours_recompute")
    found += [cell for size in SIZES for cell in of(size, short, "plain", "ours_recompute")]
    if tiny:
        eager = [cell for cell in of("124M", short, "ours", "plain", "hugging_face")]
        found = eager + of("124M", short, "ours_compiled", "plain_compiled")
    wanted = options.cells
    return [cell for cell in found if not wanted or any(part in cell.name for part in wanted)]


def run(options: Options, report: Report) -> None:
    """Measure what there is time for; earlier figures are taken over."""
    earlier = replace(options, out=options.earlier or options.out).read("speed")
    known = {k: v for k, v in earlier.get("parts", {}).items() if "step_seconds" in v}
    for name, figures in known.items():
        report.add(name, figures)
    left = [cell for cell in cells(options) if cell.name not in known]
    report.values["formula"] = FORMULA
    with ExitStack() as stack:
        waiting = [Worker(stack, options.device)] if left else []
        for number, cell in enumerate(left):
            if options.left < (1.0 if options.tiny else 20.0):
                report.values["not_measured"] = [one.name for one in left[number:]]
                report.write()
                return
            worker = waiting.pop()
            if number + 1 < len(left):
                waiting.append(Worker(stack, options.device))
            micro_batch = chosen(report.values["parts"], cell)
            with report.part(cell.name) as figures:
                found = worker.ask(replace(cell, micro_batch=micro_batch), options.left)
                figures.update(found, **rated(cell, found, device_of(options)))


def device_of(options: Options) -> str:
    """Name of the device."""
    if options.device == "cpu":
        return "CPU"
    import torch

    return torch.cuda.get_device_name(0)


def chosen(parts: dict[str, Any], cell: Cell) -> int:
    """The micro-batch that was fastest for us, which all sides of a size and length take; 0, and so
    the planner's, where ours has not been measured, or recomputation leaves room for a larger."""
    ours = parts.get(replace(cell, side="ours").name, {})
    return 0 if cell.side in ("ours", "ours_recompute") else int(ours.get("micro_batch", 0))


def rated(cell: Cell, found: dict[str, Any], device: str) -> dict[str, Any]:
    """MFU of a cell's tokens/s: x FLOPs per token (FORMULA) / the device's dense bf16 peak."""
    config = cell.config(1)
    cost = model_cost(config.model, config.vocabulary_size(2))
    peak = peak_flops(device, "bf16")
    flops = found["tokens_per_second"] * cost.flops_per_token
    return {
        "parameters": cost.parameters,
        "flops_per_token": cost.flops_per_token,
        "peak_flops": peak,
        "mfu": None if peak is None else flops / peak,
    }


class Worker:
    """A process that has imported everything and waits for its cell."""

    def __init__(self, stack: ExitStack, device: str) -> None:
        self.errors = stack.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tools.gpu.cells", device],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        stack.callback(self.process.kill)

    def ask(self, cell: Cell, seconds: float) -> dict[str, Any]:
        """The cell's figures.

        Raises:
            RuntimeError: the process ended with an error, whose last lines the message has.
            subprocess.TimeoutExpired: it took too long.
        """
        line = json_text(asdict(cell)) + "\n"
        started = time.monotonic()
        try:
            said, _ = self.process.communicate(line, timeout=min(seconds, LONGEST[cell.tiny]))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            taken = time.monotonic() - started
            raise RuntimeError(f"stopped after {taken:.0f} s: {self._last(3)}") from None
        if self.process.returncode or not said.strip():
            raise RuntimeError(self._last(6))
        found: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
        return found

    def _last(self, lines: int) -> str:
        self.errors.seek(0)
        return "\n".join(_telling(self.errors.read().strip().splitlines())[-lines:])


def _telling(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if "Warning" not in line and not line.startswith("  warn")]
