"""One stage of tools.gpu.prove in a process of its own: python -m tools.gpu.stage NAME --out DIR"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

from pretrain.console import run_program
from tools.gpu.prove import STAGES, add_options
from tools.gpu.report import Options, Report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage and close its report. Returns the exit code, 0 also where a part failed."""
    parser = argparse.ArgumentParser(prog="tools.gpu.stage", allow_abbrev=False)
    parser.add_argument("name", choices=[stage.name for stage in STAGES])
    parser.add_argument("--seconds", type=float, default=600.0)
    add_options(parser)
    given = parser.parse_args(argv)
    cells = tuple(part for part in given.cells.split(",") if part)
    options = Options(given.out, given.device, given.tiny, given.seconds, given.earlier, cells)
    report = Report(given.out / f"{given.name}.json")
    with report.part("imports"):
        module = importlib.import_module(f"tools.gpu.stages.{given.name}")
    if "error" not in report.values["parts"]["imports"]:
        module.run(options, report)
    report.end()
    return 0


if __name__ == "__main__":
    run_program(main)
