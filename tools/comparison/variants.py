"""Variants: a strategy, with fields of `selection` and `objective` that it changes.

`max_mi:estimator=pairwise:tie_bits=0` is max_mi with two fields of its own; fields of `objective`
are written with it, `ntp:objective.name=top:objective.window=8`. Several variants are separated by
commas, which count only outside brackets. An order is written `[3,2,1,0]` or `3-2-1-0`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import quote

import yaml

from pretrain.config import SelectionConfig, Strategy
from pretrain.config.objective import ObjectiveConfig
from pretrain.config.strict_yaml import load_yaml
from pretrain.errors import ConfigError

SYNTAX = "expected STRATEGY or STRATEGY:field=value, for example max_mi:estimator=pairwise"
OBJECTIVE = "objective."
ORDER = re.compile(r"\d+(-\d+)*")


@dataclass(frozen=True)
class Variant:
    """A strategy and the fields of `selection`, and `objective.` others, that it changes."""

    strategy: str
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def parts(self) -> list[str]:
        """The strategy, then `field=value` each."""
        fields = [(name, _written(value)) for name, value in self.changes]
        # `fixed 3-2-1-0` says as much as `fixed fixed=3-2-1-0`.
        return [self.strategy] + [
            value if name == self.strategy else f"{name}={value}" for name, value in fields
        ]

    @property
    def label(self) -> str:
        """For people: `max_mi estimator=pairwise`."""
        return " ".join(self.parts)

    @property
    def folder(self) -> str:
        """A name for files, different for different variants: `max_mi,estimator=pairwise`."""
        return ",".join(quote(part, safe="=") for part in self.parts)

    @property
    def selection(self) -> dict[str, Any]:
        """Fields of `selection` to set."""
        own = {name: value for name, value in self.changes if not name.startswith(OBJECTIVE)}
        return {"strategy": self.strategy, **own}

    @property
    def objective(self) -> dict[str, Any]:
        """Fields of `objective` to set."""
        return {
            name.removeprefix(OBJECTIVE): value
            for name, value in self.changes
            if name.startswith(OBJECTIVE)
        }


def parse_variants(text: str) -> list[Variant]:
    """`ntp,max_mi:estimator=pairwise` as a list.

    Raises:
        ConfigError: a strategy or field is unknown, a value is missing, or two items are the same.
    """
    variants = [_variant(item) for item in split_outside(text, ",")]
    if not variants:
        raise ConfigError(f"--strategies {text!r} names no strategy; {SYNTAX}")
    labels = [variant.label for variant in variants]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"--strategies {text}: {label} is there twice; name each once")
    return variants


def split_outside(text: str, separator: str) -> list[str]:
    """Parts of a text, separated outside square brackets; spaces around and empty ones dropped."""
    parts, depth = [""], 0
    for character in text:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _variant(item: str) -> Variant:
    strategy, *fields = split_outside(item, ":")
    if strategy not in get_args(Strategy):
        raise ConfigError(
            f"--strategies: {strategy} is unknown; use {', '.join(get_args(Strategy))}"
        )
    changes = tuple(_change(item, field) for field in fields)
    names = [name for name, _ in changes]
    if len(set(names)) < len(names):
        raise ConfigError(f"--strategies {item}: a field is set twice; set each once")
    return Variant(strategy, changes)


def _change(item: str, field: str) -> tuple[str, Any]:
    name, equals, written = (part.strip() for part in field.partition("="))
    known = [known for known in SelectionConfig.model_fields if known != "strategy"]
    known += [f"{OBJECTIVE}{field}" for field in ObjectiveConfig.model_fields]
    if not equals or not written:
        raise ConfigError(f"--strategies {item}: {field} has no value; {SYNTAX}")
    if name not in known:
        raise ConfigError(
            f"--strategies {item}: {name} is no field of selection; use {', '.join(known)}"
        )
    return name, _value(item, name, written)


def _value(item: str, name: str, written: str) -> Any:
    if name == "fixed" and ORDER.fullmatch(written):
        return [int(unit) for unit in written.split("-")]
    try:
        return load_yaml(written)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"--strategies {item}: {name} has the value {written}, which is no YAML; write an "
            "order as [3,2,1,0] or 3-2-1-0"
        ) from error


def _written(value: Any) -> str:
    if isinstance(value, list):
        return "-".join(str(unit) for unit in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
