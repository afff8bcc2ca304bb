"""The section `profile`: traces of single steps."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from pretrain.config.base import NonNegativeInt, Section


class ProfileConfig(Section):
    """Traces of single steps."""

    steps: Annotated[str, Field(pattern=r"^\d+:\d+$")] | None = None
    """Steps that are traced, as FIRST:END, counted from 0 and without the last: 10:12 are steps 10
    and 11. Written into the run's folder, to be opened in Perfetto."""
    ranks: tuple[NonNegativeInt, ...] = (0,)
    """Ranks that write a trace, each its own."""

    @property
    def window(self) -> tuple[int, int] | None:
        """First step and the one after the last; None where nothing is traced."""
        if self.steps is None:
            return None
        first, _, end = self.steps.partition(":")
        return int(first), int(end)

    @model_validator(mode="before")
    @classmethod
    def _no_number(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("steps"), int):
            raise ValueError(
                f"profile.steps {values['steps']} is a number, expected FIRST:END, for example "
                "10:12 for steps 10 and 11"
            )
        return values

    @model_validator(mode="after")
    def _not_empty(self) -> ProfileConfig:
        if self.window is not None and self.window[0] >= self.window[1]:
            first = self.window[0]
            raise ValueError(
                f"profile.steps {self.steps} holds no step; the end is not part of it: "
                f"{first}:{first + 1} is step {first}"
            )
        return self
