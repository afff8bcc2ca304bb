"""Options of the command line: `--config FILE`, and a dotted one for every field."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic_settings import CliSettingsSource

from pretrain.config.base import closest
from pretrain.config.load import load_config
from pretrain.config.root import Config
from pretrain.errors import ConfigError


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that one rank can speak for all."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            name = unknown.split()[0].split("=")[0].lstrip("-")
            fields = [
                f"{section}.{field}"
                for section, info in Config.model_fields.items()
                for field in info.annotation.model_fields  # type: ignore[union-attr]
            ]
            message = f"unknown option --{name}{closest(name, fields) if '.' in name else ''}"
        raise ConfigError(f"command line: {message}; --help lists every field")


def parse_arguments(
    argv: Sequence[str], program: str, extra: Any = None
) -> tuple[Config, argparse.Namespace]:
    """Read `--config FILE`, dotted overrides and the program's own options.

    Args:
        argv: arguments without the program's name. `--local_rank=N`, which the deepspeed launcher
            appends, is accepted and ignored.
        program: name shown by `--help`.
        extra: called with the parser to add the program's own options.

    Raises:
        ConfigError: as :func:`load_config`, or an option is unknown.
    """
    parser = _Parser(prog=program, description=Config.__doc__, allow_abbrev=False)
    parser.add_argument("--config", type=Path, default=None, help="YAML file with the sections")
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    if extra is not None:
        extra(parser)
    own = {action.dest for action in parser._actions}
    source = CliSettingsSource[Any](
        Config,
        cli_prog_name=program,
        root_parser=parser,
        cli_parse_args=list(argv),
        cli_avoid_json=True,
        cli_hide_none_type=True,
    )
    arguments = parser.parse_args(list(argv))
    overrides = {key: value for key, value in source().items() if key in Config.model_fields}
    config = load_config(arguments.config, overrides)
    return config, argparse.Namespace(
        **{key: value for key, value in vars(arguments).items() if key in own}
    )
