"""Reading a configuration from YAML, and explaining what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from pretrain import registry
from pretrain.config.data import DataSection, default_task, section_of
from pretrain.config.names import hint
from pretrain.config.root import Config
from pretrain.config.strict_yaml import load_yaml
from pretrain.errors import ConfigError


def _fields_at(location: Sequence[Any], values: dict[str, Any]) -> list[str]:
    """Names of the fields of the section that holds the last part of `location`."""
    cls: Any = Config
    for part in location[:-1]:
        if isinstance(part, int):
            continue  # the element of a sequence, whose class is in the annotation
        cls = _class_of(cls.model_fields[part].annotation)
        if cls is DataSection:
            cls = section_of(values["data"].get("task", default_task()))
    prefix = ".".join(str(part) for part in location[:-1])
    return [f"{prefix}.{name}" if prefix else name for name in cls.model_fields]


def all_fields() -> list[str]:
    """Dotted names of the fields of all sections, and of all tasks' section `data`."""
    classes = [(name, _class_of(info.annotation)) for name, info in Config.model_fields.items()]
    classes = [(name, cls) for name, cls in classes if cls is not DataSection]
    classes += [("data", section_of(task)) for task in registry.TASKS]
    names = (f"{name}.{field}" for name, cls in classes for field in cls.model_fields)
    return list(dict.fromkeys(names))


def _class_of(annotation: Any) -> Any:
    """The section in an annotation such as `tuple[Section, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_class_of, get_args(annotation))), None)


def _explain(error: ValidationError, values: dict[str, Any], source: str) -> str:
    """Few lines, one per problem: the field, what was found, what was expected."""
    lines = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _fields_at(problem["loc"], values)
            text = f"unknown field {name}{hint(name, known, all_fields())}"
        elif problem["type"] == "value_error":
            text = str(problem["ctx"]["error"])
        else:
            text = f"{name}: {problem['msg'][0].lower()}{problem['msg'][1:]} " \
                   f"(found {problem['input']!r})"  # fmt: skip
        lines.append(text)
    return f"{source}: " + "\n  ".join(["the configuration is refused", *lines])


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, no YAML, or no mapping.
    """
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"--config {path}: expected sections, found a {type(values).__name__}")
    return values


def load_config(path: Path | None = None, overrides: dict[str, Any] | None = None) -> Config:
    """Build the configuration from a YAML file and nested overrides.

    Raises:
        ConfigError: a field is unknown, of a wrong type, out of range, or clashes with another.
    """
    values = read_yaml(path) if path is not None else {}
    merged = _merge(values, overrides or {})
    try:
        return Config(**merged)
    except ValidationError as error:
        raise ConfigError(_explain(error, merged, str(path) if path else "command line")) from error
