"""YAML 1.2, core schema, as people mean it: 0100 is a hundred, 10:00 and yes are words, and a key
that is there twice is refused."""

from __future__ import annotations

import re
from typing import Any

import yaml

INT, FLOAT, BOOL = (f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool"))
NUMBERS = (
    (BOOL, r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        FLOAT,
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
)
"""Section 10.3.2 of the specification: tag, form, first characters. The others of 1.1 are gone."""
KEPT = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [each for each in resolvers if each[0] in KEPT]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As PyYAML, without keys that are there twice."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != KEPT[1]:
                line = key.start_mark.line + 1
                if key.value in lines:
                    raise yaml.YAMLError(
                        f"{key.value} is there twice, in lines {lines[key.value]} and {line}; "
                        "keep one of them"
                    )
                lines[key.value] = line
        return super().construct_mapping(node, deep)

    def whole_number(self, node: yaml.ScalarNode) -> int:
        """Decimal, unless it begins with 0o or 0x."""
        text = node.value
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


for _tag, _form, _first in NUMBERS:
    _Loader.add_implicit_resolver(_tag, re.compile(f"(?:{_form})$"), list(_first))
_Loader.add_constructor(INT, _Loader.whole_number)


def load_yaml(text: str) -> Any:
    """The value that `text` holds.

    Raises:
        yaml.YAMLError: it is no YAML, or names a key twice.
    """
    return yaml.load(text, _Loader)
