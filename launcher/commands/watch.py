"""Show how a run does, again and again, from its folder alone.

On a terminal until Ctrl-C; one frame where the output is a file or a pipe. Works on a login node:
The scheduler is asked only about a job that `launcher submit` or a batch script has noted in the
folder.
"""

from __future__ import annotations

import argparse
import time

from launcher.watch.snapshot import take
from pretrain.errors import ConfigError
from pretrain.paths import path_argument

HELP = "show how a run does, in the terminal"
SHORTEST = 0.2


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("run", type=path_argument, metavar="RUN", help="folder of the run")
    parser.add_argument("--once", action="store_true", help="show one frame and end")
    parser.add_argument(
        "--interval", type=float, default=2.0, metavar="S",
        help="seconds between two frames (default: 2)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Show. Returns the exit code."""
    if options.interval < SHORTEST:
        raise ConfigError(f"--interval {options.interval:g}: expected at least {SHORTEST} seconds")
    from rich.console import Console
    from rich.live import Live

    from launcher.watch.frame import PRINTED_HEIGHT, frame

    console = Console(highlight=False)
    first = take(options.run)
    if options.once or not console.is_terminal:
        ascii_only = console.options.ascii_only
        console.print(frame(first, console.width, PRINTED_HEIGHT, ascii_only))
        return 0
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                width, height = console.size
                shown = frame(take(options.run), width, height, console.options.ascii_only)
                live.update(shown, refresh=True)
                time.sleep(options.interval)
    except KeyboardInterrupt:
        return 0
