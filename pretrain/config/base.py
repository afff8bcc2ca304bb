"""What every section of the configuration stands on."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A part of the configuration. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, strict=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool):
            annotation = cls.model_fields[info.field_name or ""].annotation
            if bool not in (annotation, *get_args(annotation)):
                raise PydanticCustomError("truth_value", "True and False are no value of it")
        return value


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
