"""Records of named fields as tokens: each unit of a field is one, so that all have one length.

    {"source": {"year": 1996, "colour": "red"}, "target": {"code": "A7"}}

A category is one unit, a string one for each character, a number one for each digit; a text, which
only a source has, is cut into words. Equal units of different fields are the same token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from pretrain.data.records import half_surrogate, shortened
from pretrain.data.tokenizers.base import UNKNOWN, digest
from pretrain.data.tokenizers.vocabulary import FORMAT, ListTokenizer, split_words

Kind = Literal["category", "string", "number", "text"]
Value = str | int | float | bool | None
EMPTY, MISSING = "", "<missing>"
"""Units behind the end of a short value, and of one that is not there."""
SIGNS, DIGITS = ("+", "-"), tuple("0123456789")
_WHOLE = re.compile(r"(-?)(0|[1-9][0-9]*)")


class Field(BaseModel):
    """A field of a record: which values it has, and of which units they are made."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """As records have it."""
    kind: Kind
    """What its units are: itself, its characters, its digits, or words."""
    width: int = 1
    """Characters, digits or words."""
    signed: bool = False
    """Whether a sign stands before the digits."""
    quoted: bool = True
    """Whether values are JSON strings; otherwise numbers, true and false."""
    optional: bool = False
    """Whether a value may be missing."""
    values: tuple[str, ...] = ()
    """Categories, or characters of strings."""

    @property
    def units(self) -> int:
        """Tokens of each value."""
        return self.width + self.signed

    @property
    def unit_names(self) -> tuple[str, ...]:
        """Name of the field, with the places of its units where it has several."""
        if self.units == 1:
            return (self.name,)
        return tuple(f"{self.name}[{place}]" for place in range(self.units))

    @property
    def known(self) -> frozenset[str]:
        """Units that values are made of; texts may have others."""
        own = {"number": DIGITS + SIGNS * self.signed, "string": (EMPTY, *self.values)}
        return frozenset((*own.get(self.kind, self.values), *(MISSING,) * self.optional))

    def split(self, value: Value) -> tuple[str, ...]:
        """A value as its units.

        Raises:
            ValueError: it is none of this field's; says why.
        """
        if value is None:
            if not self.optional:
                raise ValueError(f"the field {self.name} is missing or null")
            return (MISSING,) * self.units
        text = self.text_of(value)
        if self.kind == "category":
            return (self._category(text),)
        if self.kind == "number":
            return self._digits(text, value)
        parts = split_words(text) if self.kind == "text" else list(text)
        if self.kind == "text":
            parts = parts[: self.width]
        self._check_width(parts, value)
        if self.kind == "string" and (odd := set(parts) - set(self.values)):
            raise ValueError(
                f"the field {self.name} is {shortened(value)}, with the character {min(odd)!r} "
                "that no training record has there; name it in "
                f"data.field_settings.{self.name}.values"
            )
        return (*parts, *(EMPTY,) * (self.width - len(parts)))

    def join(self, units: Sequence[str]) -> Value:
        """The value of units: the inverse of :meth:`split`, but for texts.

        Raises:
            ValueError: they are those of no value.
        """
        if self.optional and set(units) == {MISSING}:
            return None
        written = "".join(units)
        if self.kind == "number":
            sign = written[:1] if self.signed else "+"
            digits = written[self.signed :].lstrip("0") or "0"
            written = ("-" if sign == "-" else "") + digits
        value: Value = written if self.quoted else json.loads(written or "null")
        if self.split(value) != tuple(units):
            raise ValueError(f"{list(units)} are no value of the field {self.name}")
        return value

    def text_of(self, value: Value) -> str:
        """The characters of a value: itself, or its JSON.

        Raises:
            ValueError: it is of another type than the field's values, or cannot be encoded.
        """
        if isinstance(value, str) != self.quoted:
            expected = "a text" if self.quoted else "a number, true or false"
            raise ValueError(
                f"the field {self.name} is {json.dumps(value)[:60]}, expected {expected} as in "
                "the other records"
            )
        try:
            return text_of(value)
        except ValueError as error:
            raise ValueError(f"the field {self.name} cannot be written: {error}") from None

    def _category(self, text: str) -> str:
        if text == MISSING and self.optional:
            raise ValueError(f"the field {self.name} is {MISSING!r}, which stands for no value")
        if text not in self.values:
            few = ", ".join(map(shortened, self.values[:5])) + (", ..." if self.values[5:] else "")
            raise ValueError(
                f"the field {self.name} is {shortened(text)}, which is none of its categories "
                f"({few}); name it in data.field_settings.{self.name}.values"
            )
        return text

    def _digits(self, text: str, value: Value) -> tuple[str, ...]:
        found = _WHOLE.fullmatch(text)
        if found is None or text == "-0":
            raise ValueError(
                f"the field {self.name} is {shortened(value)}, expected a whole number without "
                f"leading zeros; other values need data.field_settings.{self.name}.kind category"
            )
        minus, digits = found.groups()
        if minus and not self.signed:
            raise ValueError(
                f"the field {self.name} is {text}, below 0, but has no sign in the training records"
            )
        self._check_width(digits, value)
        sign = ("-" if minus else "+",) if self.signed else ()
        return (*sign, *digits.zfill(self.width))

    def _check_width(self, parts: Sequence[str], value: Value) -> None:
        if len(parts) > self.width:
            what = "digits" if self.kind == "number" else "characters"
            raise ValueError(
                f"the field {self.name} is {shortened(value)}, wider than its {self.width} {what}; "
                f"raise data.field_settings.{self.name}.width to {len(parts)}"
            )


def text_of(value: Value) -> str:
    """The characters of a value: itself, or its JSON.

    Raises:
        ValueError: it cannot be encoded.
    """
    text = value if isinstance(value, str) else json.dumps(value, allow_nan=False)
    if half := half_surrogate(text):
        raise ValueError(half)
    return text


def is_whole(text: str) -> bool:
    """Whether a text is a whole number as :class:`Field` writes it again."""
    return _WHOLE.fullmatch(text) is not None and text != "-0"


class RecordTokenizer(ListTokenizer):
    """Tokens of the units of records. A prompt is a source as JSON, or its text.

    Args:
        tokens: units first, then words that only texts have.
        units: number of those units.
        source, target: the fields of a record, in their natural order.
    """

    kind = "fields"
    separator = " "
    lossless = False  # of a prompt, values are read

    def __init__(
        self,
        tokens: Sequence[str],
        units: int,
        source: Sequence[Field],
        target: Sequence[Field],
    ) -> None:
        super().__init__(tokens)
        self.units = units
        self.source, self.target = tuple(source), tuple(target)
        lacking = sorted(set().union(*(f.known for f in (*source, *target))) - set(tokens[:units]))
        if lacking:
            raise ValueError(f"the unit {lacking[0]!r} of a field is not among the tokens")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> RecordTokenizer:
        """From the values of a file.

        Raises:
            ValueError: a field is no field.
        """
        sides = [[Field(**field) for field in values[side]] for side in ("source", "target")]
        return cls(values["tokens"], int(values["units"]), *sides)

    @staticmethod
    def split(text: str) -> list[str]:
        """A unit is a token as a whole."""
        return [text]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over tokens and fields."""
        return digest(self.kind, self.specials, json.loads(self.content()))

    def content(self) -> bytes:
        """JSON of tokens and fields."""
        values = {
            "kind": self.kind,
            "format": FORMAT,
            "units": self.units,
            "source": [field.model_dump() for field in self.source],
            "target": [field.model_dump() for field in self.target],
            "tokens": self.tokens,
        }
        return (json.dumps(values, indent=0) + "\n").encode()

    def ids(self, units: Iterable[str]) -> list[int]:
        """Tokens of units; `<unk>` for words that are not known."""
        unknown = self.special(UNKNOWN)
        return [self._ids.get(unit, unknown) for unit in units]

    def encode(self, text: str) -> np.ndarray:
        """[source units + 1] int64 of a source, with the mark after it.

        Raises:
            ValueError: it is none.
        """
        names = [field.name for field in self.source]
        try:
            record: Any = json.loads(text)
        except ValueError:
            record = None
        if not isinstance(record, dict) or set(record) - set(names):
            record = {names[0]: text} if [f.kind for f in self.source] == ["text"] else None
        if record is None:
            raise ValueError(
                f"prompt {shortened(text)}: expected a JSON object with the fields "
                f"{', '.join(names)}"
            )
        units = [unit for f in self.source for unit in f.split(record.get(f.name))]
        return np.array([*self.ids(units), self.special(MARK)], dtype=np.int64)

    def record(self, ids: Sequence[int] | np.ndarray) -> dict[str, Value | Exception]:
        """The target of tokens in natural order, by field; an error where a field has no value.

        Args:
            ids: [target units].
        """
        found: dict[str, Value | Exception] = {}
        place = 0
        for field in self.target:
            own = list(map(int, ids[place : place + field.units]))
            place += field.units
            try:
                if len(own) < field.units or not all(0 <= i < self.units for i in own):
                    raise ValueError(f"no units of the field {field.name}")
                found[field.name] = field.join([self.tokens[i] for i in own])
            except ValueError as error:
                found[field.name] = error
        return found

    def as_json(self, ids: Sequence[int] | np.ndarray) -> str:
        """The target of tokens in natural order as JSON; a field whose tokens are no value is left
        out.

        Args:
            ids: [target units].
        """
        values = self.record(ids).items()
        return json.dumps(
            {name: value for name, value in values if not isinstance(value, Exception)},
            ensure_ascii=False,
        )

    def _text(self, ids: list[int], specials: bool) -> str:
        return " ".join(self.tokens[i] or "<empty>" for i in ids)


MARK = "<plan>"
"""Stands between source and target."""
