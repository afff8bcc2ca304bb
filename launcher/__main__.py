"""Training jobs on a SLURM cluster.

    python -m launcher submit --config FILE --nodes 2 --gpus-per-node 8 --time 24:00:00
    python -m launcher status RUN
    python -m launcher watch RUN

`python -m launcher COMMAND --help` lists the options of a command; docs/slurm.md explains them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from launcher.commands import cancel, logs, resubmit, status, submit, watch
from pretrain.console import run_program
from pretrain.errors import UserError

COMMANDS = {
    "submit": submit,
    "status": status,
    "watch": watch,
    "logs": logs,
    "cancel": cancel,
    "resubmit": resubmit,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand. Returns the exit code: 0, or 2 for an error that the user can mend."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["submit"]:  # its options include the whole configuration's
            return submit.run(arguments[1:])
        options = _parser().parse_args(arguments)
        code: int = options.command(options)
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, BrokenPipeError):
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m launcher",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, description=module.__doc__)
        module.add_options(command)
        command.set_defaults(command=module.run)
    return parser


if __name__ == "__main__":
    run_program(main)
