"""What every section of the configuration stands on."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A part of the configuration. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, strict=False)


def closest(name: str, known: Sequence[str]) -> str:
    """The end of a message about an unknown `name`: the nearest known one, or all of them."""
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {match[0]}?" if match else f"; known: {', '.join(known)}"


def check_name(field: str, name: str, known: Sequence[str]) -> str:
    """`name`, if it is among the known ones.

    Raises:
        ValueError: names the field, what was found and what is known.
    """
    if name not in known:
        raise ValueError(f"{field} {name} is not known; use {', '.join(known)}")
    return name
