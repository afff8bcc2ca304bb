"""The section `data` of arithmetic."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from pretrain import registry
from pretrain.config import SelectionConfig
from pretrain.config.base import PositiveInt
from pretrain.config.data import HeldOutShare, Restoration
from pretrain.tasks.fixed_width.config import FixedWidthData

if TYPE_CHECKING:
    from pretrain.data.tokenizers import Tokenizer

SYMBOLS = "0123456789+-*="
SIGNS = {"addition": "+", "subtraction": "-", "multiplication": "*"}


class ArithmeticData(HeldOutShare, FixedWidthData):
    """Problems of two operands, which are made here."""

    dataset_class = "pretrain.tasks.arithmetic.data:Arithmetic"
    presentation_class = "pretrain.tasks.arithmetic.presentation:ArithmeticPresentation"

    task: Literal["arithmetic"] = "arithmetic"
    """Kind of examples."""
    operation: Literal["addition", "subtraction", "multiplication"] = "multiplication"
    """Arithmetic operation."""
    digits: Annotated[int, Field(ge=1, le=9)] = 2
    """Digits of each operand, zero-padded."""
    digits_second: Annotated[int, Field(ge=1, le=9)] | None = None
    """Digits of the second operand, where it has others than the first."""
    examples: PositiveInt | None = None
    """Operand pairs drawn in all, a*b and b*a counted once; every pair if not given (3 digits at
    the most)."""

    @model_validator(mode="after")
    def _enumerable(self) -> ArithmeticData:
        if max(self.digits, self.second_digits) > 3 and self.examples is None:
            raise ValueError(
                f"data.digits {self.digits} has 10^{self.digits + self.second_digits} pairs; say "
                "how many to draw with data.examples, for example 1000000"
            )
        return self

    @property
    def second_digits(self) -> int:
        """Digits of the second operand, with the default resolved."""
        return self.digits_second or self.digits

    @property
    def answer_units(self) -> int:
        """Units of an answer: its digits, and the sign of a difference."""
        both, longest = self.digits + self.second_digits, max(self.digits, self.second_digits)
        return both if self.operation == "multiplication" else longest + 1

    def title(self) -> str:
        """Such as 2-digit multiplication."""
        second = "" if self.second_digits == self.digits else f" by {self.second_digits}"
        return f"{self.digits}{second}-digit {self.operation}"

    def restoration(self, strategy: str) -> Restoration:
        """Digits are put back; a prompt is a problem with its equals sign."""
        sign = SIGNS[self.operation]
        form = rf"[0-9]{{{self.digits}}}{re.escape(sign)}[0-9]{{{self.second_digits}}}="
        first = "35".zfill(self.digits)[-self.digits :]
        second = "07".zfill(self.second_digits)[-self.second_digits :]
        return Restoration("reorder", form, f"{first}{sign}{second}=")

    def own_tokenizer(self) -> Tokenizer:
        """One token for each symbol, and padding."""
        from pretrain.data.tokenizers import SymbolTokenizer

        return SymbolTokenizer(SYMBOLS)

    def known_vocabulary(self) -> int:
        """That of :meth:`own_tokenizer`."""
        return self.own_tokenizer().size

    def table_cells(
        self, selection: SelectionConfig, vocabulary: int, data_parallel: int
    ) -> int | None:
        """A row for each source (joint), each digit of it (pairwise) or each pair of digits
        (operand_pair), a column for each value of each answer digit; or what an estimator of
        orders says."""
        digits = self.digits + self.second_digits
        if selection.estimator in registry.ORDER_ESTIMATORS:
            estimator = registry.load(registry.ORDER_ESTIMATORS[selection.estimator])
            return int(estimator.cells(selection, digits, self.answer_units, 10, data_parallel))
        rows = {"joint": 10**digits, "pairwise": 10 * digits, "operand_pair": (10 * digits) ** 2}
        if selection.estimator not in rows:
            return None
        return rows[selection.estimator] * vocabulary * (digits + 1)
