"""Fit the selector's table as a job of its own, and keep it for later runs.

    python -m tools.fit_selection --config configs/smoke/multiplication.yaml --out DIR
    torchrun --nproc-per-node 4 -m tools.fit_selection --config FILE --out DIR
    mpirun -n 4 python -m tools.fit_selection --config FILE --out DIR
    python -m tools.fit_selection --config FILE --out DIR --add DIR1 --add DIR2

A run that is given `--selection.table DIR` loads it, with any number of ranks. A table that is
there already and belongs to the configuration is kept; one that does not is refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretrain.config import TABLELESS, parse_arguments
from pretrain.console import run_program
from pretrain.distributed.ranks import discover
from pretrain.errors import ConfigError, UserError
from pretrain.files import json_text
from pretrain.paths import path_argument
from pretrain.selection.table.manifest import read_manifest
from tools.readers import reading_config, reading_together

if TYPE_CHECKING:
    from pretrain.selection.fitter import CountingFitter
    from pretrain.selection.selector import Selection

if TYPE_CHECKING:
    import torch.distributed as dist


def fit(
    fitter: CountingFitter[Any], out: Path, group: dist.ProcessGroup | None, shown: bool
) -> dict[str, Any]:
    """Fit the table into `out`, or use the one that is there. Returns what is printed."""
    from pretrain.selection.table.collectives import world

    there = out.exists()
    selection, _ = fitter.fit_or_load(group, shown and world(group)[0] == 0, out)
    return _report(out, selection, "was there already" if there else "fitted")


def add(
    fitter: CountingFitter[Any],
    out: Path,
    tables: Sequence[Path],
    group: dist.ProcessGroup | None,
) -> dict[str, Any]:
    """Write the sum of `tables` to `out`. Returns what is printed."""
    from pretrain.selection.table import store

    content, first = fitter.load(tables, group)
    sources = [read_manifest(table).made_from["corpus"] for table in tables]
    origin = {**first.made_from, "corpus": sources}
    selection = fitter.select(content)
    store.save(content, out, origin)
    return _report(out, selection, "added up")


def _report(out: Path, selection: Selection, how: str) -> dict[str, Any]:
    manifest = read_manifest(out)
    return {
        "out": str(out),
        "how": how,
        "fingerprint": manifest.fingerprint,
        "made_from": manifest.made_from,
        "shards": [
            {"file": shard["file"], "bytes": shard["bytes"]} for shard in manifest.values["shards"]
        ],
        "selection": json.loads(selection.to_json()),
        "table": selection.table(),
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the fit."""
    parser.add_argument(
        "--out", type=path_argument, help="folder of the table, which all processes see"
    )
    parser.add_argument(
        "--add",
        type=path_argument,
        action="append",
        default=[],
        help="sum this table up instead of fitting",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _text(report: dict[str, Any]) -> str:
    size = sum(shard["bytes"] for shard in report["shards"])
    return (
        f"{report['table']}\n{report['how']}: {report['out']}, {len(report['shards'])} shard(s) of "
        f"{size:,} bytes in all, fingerprint {report['fingerprint']}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Fit and print. Returns the exit code."""
    rank = 0
    try:
        ranks = discover()
        rank = ranks.rank
        given, options = parse_arguments(
            list(sys.argv[1:] if argv is None else argv), "tools.fit_selection", add_options
        )
        if options.out is None:
            raise ConfigError("--out is missing; name the folder of the table")
        if given.selection.estimator in TABLELESS:
            raise ConfigError(
                f"selection.estimator {given.selection.estimator} has no table; use joint, "
                "pairwise or operand_pair"
            )
        config = reading_config(given)
        fitter = config.data.build(config).fitter
        with reading_together(config, ranks) as group:
            if options.add:
                report = add(fitter, options.out, options.add, group)
            else:
                report = fit(fitter, options.out, group, config.run.progress)
    except UserError as error:
        # A rank's own trouble is told by that rank, what follows from it by the first alone.
        if rank == 0 or not isinstance(error, ConfigError):
            print(f"error: rank {rank}: {error}" if rank else f"error: {error}", file=sys.stderr)
        return 2
    if rank == 0:
        print(json_text(report) if options.json else _text(report))
    return 0


if __name__ == "__main__":
    run_program(main)
