"""Turn a Megatron-LM command line into a configuration, and name what it leaves out.

    python -m tools.megatron_arguments train_gpt3_175b.sh > gpt3.yaml
    python -m tools.megatron_arguments -- --num-layers 32 --hidden-size 4096 ... > llama.yaml
    python -m tools.plan --config gpt3.yaml --gpus 1024

The script is read and not run. The YAML begins with what differs and what was left out, as
comments; it says nothing of what no flag decides.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import yaml

from pretrain.config import load_config
from pretrain.console import run_program
from pretrain.errors import UserError
from pretrain.paths import path_argument
from tools.megatron.command import flags_of_arguments, flags_of_script
from tools.megatron.translation import Translation, translate

WIDTH = 98


def yaml_of(made: Translation, origin: str) -> str:
    """The configuration, with comments on what it does not hold."""
    lines = [f"From {origin}, by tools.megatron_arguments."]
    if made.differs:
        lines += ["Differs:", *(f"- {text}" for text in made.differs)]
    if made.left:
        reasons: dict[str, list[str]] = {}
        for flag, reason in made.left.items():
            reasons.setdefault(reason, []).append(flag)
        lines += ["Left out:", *(f"- {', '.join(f)} ({why})" for why, f in reasons.items())]
    wrapped = (
        textwrap.wrap(
            line, WIDTH, subsequent_indent="  " * line.startswith("-"), break_on_hyphens=False
        )
        for line in lines
    )
    comments = "".join(f"# {line}\n" for part in wrapped for line in part)
    return comments + yaml.safe_dump(made.sections, sort_keys=False)


def _flags(words: Sequence[str]) -> tuple[dict[str, list[str]], str]:
    """The flags, and where they come from.

    Raises:
        UserError: the script cannot be read.
    """
    if len(words) != 1 or words[0].startswith("--"):
        return flags_of_arguments(words), "a command line"
    try:
        path = path_argument(words[0])
        return flags_of_script(Path(path).read_text(encoding="utf-8")), path.name
    except (argparse.ArgumentTypeError, OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{words[0]}: cannot be read ({error}); name a script, or give flags"
        ) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Translate and print. Returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--"]:
        words = words[1:]
    if not words or words in (["-h"], ["--help"]):
        print(__doc__)
        return 0 if words else 2
    try:
        given, origin = _flags(words)
        made = translate(given)
        load_config(None, made.sections)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(yaml_of(made, origin), end="")
    print(
        f"{len(made.differs)} things differ, {len(made.left)} flags are left out", file=sys.stderr
    )
    return 0


if __name__ == "__main__":
    run_program(main)
