"""Scores of the target's units, and the order that they imply, without training anything.

    python -m tools.inspect_selection --config configs/smoke/multiplication.yaml \\
        [--estimator pairwise] [--all-pairs] [--json]

Started by torchrun, deepspeed or mpirun, the table is sharded over the processes; the result is the
same to the last bit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from pretrain.config import Config, parse_arguments
from pretrain.console import run_program
from pretrain.distributed.ranks import discover
from pretrain.errors import ConfigError, UserError
from pretrain.files import json_text
from pretrain.tasks.fixed_width.config import FixedWidthData
from tools.readers import reading_config, reading_together

if TYPE_CHECKING:
    import torch.distributed as dist

    from pretrain.selection.selector import Selection


def inspect(config: Config, all_pairs: bool, group: dist.ProcessGroup | None = None) -> Selection:
    """Fit the selection on the training split, or on every example.

    Args:
        config: `selection` and `data` count.
        all_pairs: fit on every example, train and test together, without correction.
        group: the processes that share the table; None for one.
    """
    # The table's compiled code: after the configuration holds.
    from pretrain.selection.fitter import CountingFitter
    from pretrain.tasks.fixed_width.rule import rule_of

    dataset = FixedWidthData.of(config).dataset()
    rule = rule_of(config, dataset)
    if all_pairs:
        uncorrected = config.selection.model_copy(update={"correction": "none"})
        config = config.model_copy(update={"selection": uncorrected})
        rule = replace(rule, settings=uncorrected, train=dataset.every())
    return CountingFitter(config, rule, dataset.tokenizer.fingerprint).fit(group)[0]


def as_json(selection: Selection) -> dict[str, Any]:
    """What `--json` prints; units are numbered from the most significant."""
    first = ("estimator", "bits", "order", "fingerprint")
    values = {**asdict(selection), "fingerprint": selection.fingerprint}
    return {name: values[name] for name in first} | values


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the inspection."""
    parser.add_argument(
        "--estimator", choices=FixedWidthData.estimators, help="instead of selection.estimator"
    )
    parser.add_argument(
        "--all-pairs",
        action="store_true",
        help="fit on all examples, uncorrected",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(argv: Sequence[str] | None = None) -> int:
    """Fit and print. Returns the exit code."""
    rank = 0
    try:
        ranks = discover()
        rank = ranks.rank
        given, options = parse_arguments(
            list(sys.argv[1:] if argv is None else argv), "tools.inspect_selection", add_options
        )
        if not isinstance(given.data, FixedWidthData):
            raise ConfigError(
                f"data.task {given.data.task}: its targets have no units at fixed places; "
                "tools.fit_selection prints what it selects"
            )
        config = reading_config(given, options.estimator)
        with reading_together(config, ranks) as group:
            selection = inspect(config, options.all_pairs, group)
    except UserError as error:
        if rank == 0:
            print(f"error: {error}", file=sys.stderr)
        return 2
    if rank == 0:
        print(json_text(as_json(selection)) if options.json else selection.table())
    return 0


if __name__ == "__main__":
    run_program(main)
