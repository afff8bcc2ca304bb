"""What every section of the configuration stands on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from pretrain.paths import written_out

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

    @field_validator("*", mode="before")
    @classmethod
    def _path(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, str | Path) and Path in (annotation, *get_args(annotation)):
            return write_path_out(str(value))
        return value


def write_path_out(text: str) -> str:
    """As :func:`pretrain.paths.written_out`, for validators; their messages name the field."""
    try:
        return written_out(text)
    except ValueError as error:
        raise PydanticCustomError("path", "{reason}", {"reason": str(error)}) from None


def check_name(field: str, name: str, known: Sequence[str]) -> str:
    """`name`, if it is among the known ones.

    Raises:
        ValueError: names the field, what was found and what is known.
    """
    if name not in known:
        raise ValueError(f"{field} {name} is not known; use {', '.join(known)}")
    return name
