"""Train a GPT as a configuration says.

deepspeed pretrain/main.py --config configs/smoke/multiplication.yaml
torchrun --nproc-per-node 2 pretrain/main.py --config FILE --training.steps 100
mpirun -n 2 python pretrain/main.py --config FILE
python pretrain/main.py --config FILE --dry-run
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

if __package__ in (None, ""):  # started as a file: the repository is not on the path yet
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from pretrain.config import parse_arguments
from pretrain.console import run_program
from pretrain.distributed.ranks import discover
from pretrain.errors import UserError
from pretrain.imports import importing

PATIENCE = 5.0
"""Seconds that other ranks leave the first one to say what is wrong."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the entry itself."""
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="resolve the configuration, build the model, run one made-up batch, print "
        "parameters, layout, memory and FLOPs per token; train nothing",
    )


def main(argv: list[str] | None = None) -> int:
    """Parse, build, run. Returns the exit code: 0; 2 for an error that the user can mend; 74 where
    other ranks did not come; 75 for a run that was asked to stop and can go on."""
    rank = 0
    try:
        ranks = discover()
        rank = ranks.rank
        arguments = sys.argv[1:] if argv is None else argv
        if rank != 0 and {"--help", "-h"} & set(arguments):
            return 0
        config, options = parse_arguments(arguments, "pretrain/main.py", add_options)
        config.check_layout(ranks.world_size)
        with importing():
            from pretrain.training import job  # seconds of imports: after the configuration holds

        if options.dry_run:
            job.dry_run(config, ranks)
            return 0
        return job.run(config, ranks)
    except UserError as error:
        if rank:
            # The first rank most likely says the same, and launchers end all others with the first
            # that ends.
            time.sleep(PATIENCE)
        said = f"error on rank {rank}" if rank else "error"
        print(f"{said}: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    run_program(main)
