"""The section of a task that a test registers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pretrain.config import DataSection, Strategy


class ToyData(DataSection):
    """Words said backwards."""

    task: Literal["toy"] = "toy"
    """Kind of examples."""
    words: int = 3
    """Words of an example."""

    strategies: ClassVar[tuple[Strategy, ...]] = ("ntp", "reverse")

    def title(self) -> str:
        """Such as 3 words."""
        return f"{self.words} words"
