"""Templates by `package:file`; everything that is put into them is escaped."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from tools.report.words import clip, ordinal

PASSAGE_LENGTH = 1200
PLAN = re.compile(r"<plan>(.*?)</plan>", re.DOTALL)


def render(template: str, **values: Any) -> Markup:
    """A template filled in.

    Args:
        template: `package:file`, a file beside the modules of the package.
        values: what it names; text is escaped, markup is not.
    """
    # Jinja escapes: the result is markup.
    return Markup(_environment().get_template(template).render(**values))


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        loader=FunctionLoader(_source),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"passage": passage, "ordinal": ordinal}
    return environment


def _source(name: str) -> str:
    package, _, file = name.partition(":")
    return files(package).joinpath(file).read_text(encoding="utf-8")


def passage(words: object) -> Markup:
    """A text, clipped; what stands between `<plan>` and `</plan>` is marked."""
    shown = clip(str(words), PASSAGE_LENGTH)
    parts, end = [], 0
    for found in PLAN.finditer(shown):
        plan = Markup("<mark>{}</mark>").format(found.group(1).strip())
        parts += [escape(shown[end : found.start()]), plan]
        end = found.end()
    return Markup("").join([*parts, escape(shown[end:])])
