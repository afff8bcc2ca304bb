"""Options of the command line: `--config FILE`, and a dotted one for every field."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from copy import copy
from typing import Any, Literal, NoReturn

from pydantic import create_model
from pydantic_settings import BaseSettings, CliSettingsSource

from pretrain import registry
from pretrain.config.base import Section
from pretrain.config.data import default_task, section_of
from pretrain.config.load import all_fields, load_config
from pretrain.config.names import hint
from pretrain.config.root import Config
from pretrain.errors import ConfigError
from pretrain.paths import path_argument


def options_class() -> type[BaseSettings]:
    """Every field of every task, for the options and their help; nothing is checked by it."""
    classes = {task: section_of(task) for task in registry.TASKS}
    kinds = ", ".join(f"{task} ({_in_words(cls)})" for task, cls in classes.items())
    fields: dict[str, Any] = {}
    for cls in classes.values():
        for name, info in cls.model_fields.items():
            if name in fields:
                continue
            field = copy(info)
            of = [task for task, other in classes.items() if name in other.model_fields]
            if len(of) < len(classes):
                field.description = f"{field.description} ({', '.join(of)})"
            fields[name] = (field.annotation, field)
    task = copy(section_of(default_task()).model_fields["task"])
    task.description = f"Kind of examples: {kinds}."
    fields["task"] = (Literal[tuple(classes)], task)
    data: Any = create_model("data", __base__=Section, **fields)
    options: type[BaseSettings] = create_model(
        "Options", __base__=Config, __doc__=Config.__doc__, data=(data, data())
    )
    return options


def _in_words(cls: type[Section]) -> str:
    """The first line of a class's docstring, as a part of a sentence."""
    line = (cls.__doc__ or "").strip().split("\n")[0].rstrip(".")
    return line[:1].lower() + line[1:]


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that one rank can speak for all."""

    own: Sequence[str] = ()
    """Names of the program's own options."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            name = unknown.split()[0].split("=")[0].lstrip("-")
            fields = all_fields()
            message = f"unknown option --{name}{hint(name, [*fields, *self.own], fields)}"
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
    options = options_class()
    parser = _Parser(prog=program, description=Config.__doc__, allow_abbrev=False)
    parser.add_argument(
        "--config", type=path_argument, default=None, help="YAML file with the sections"
    )
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    if extra is not None:
        extra(parser)
    own = {action.dest for action in parser._actions}
    shown = (action for action in parser._actions if action.help is not argparse.SUPPRESS)
    parser.own = [name.lstrip("-") for action in shown for name in action.option_strings[-1:]]
    source = CliSettingsSource[Any](
        options,
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
