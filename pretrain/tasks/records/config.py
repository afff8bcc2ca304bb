"""The section `data` of records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from pretrain import registry
from pretrain.config import SelectionConfig
from pretrain.config.base import PositiveInt, Section
from pretrain.config.data import ExampleFiles, Restoration
from pretrain.tasks.fixed_width.config import FixedWidthData

if TYPE_CHECKING:
    from pretrain.data.tokenizers import Tokenizer


class FieldSettings(Section):
    """What a field's values are, where the records of data.path do not tell it by themselves."""

    kind: Literal["category", "string", "number", "text"] | None = None
    """What its units are: the value (category), its characters (string), its digits (number), or
    its words (text, in a source only). If not given: number for whole numbers, category for few
    distinct values, string for others up to 32 characters, else text."""
    width: PositiveInt | None = None
    """Most characters or digits, or the words that a text is cut to; the longest value's if not
    given, and at most 64 words."""
    values: tuple[str, ...] = ()
    """Categories, or characters of a string, besides those of data.path."""

    @model_validator(mode="after")
    def _of_use(self) -> FieldSettings:
        if self.width is not None and self.kind == "category":
            raise ValueError(f"width {self.width} is of no use to kind category; leave it out")
        if self.values and self.kind not in ("category", "string"):
            raise ValueError(
                f"values {', '.join(self.values[:3])} need kind category or string; name it"
            )
        return self


class RecordsData(FixedWidthData, ExampleFiles):
    """Records with the fields of a source and of a target."""

    task_class = "pretrain.tasks.records.task:RecordsTask"
    dataset_class = "pretrain.tasks.records.data:RecordDataset"
    presentation_class = "pretrain.tasks.records.presentation:RecordsPresentation"
    # Many columns as one variable are beyond counting, and each source is its own.
    estimators: ClassVar[tuple[str, ...]] = (
        "pairwise", "operand_pair", "joint", "v_information", *registry.ORDER_ESTIMATORS,
    )  # fmt: skip

    task: Literal["records"] = "records"
    """Kind of examples."""
    source: tuple[str, ...] = ()
    """Fields of the source, in their order; those of the first record if not given. With target,
    they also name columns of files whose records are not parted in two."""
    target: tuple[str, ...] = ()
    """Fields of the target in their natural order; those of the first record if not given."""
    field_settings: dict[str, FieldSettings] = Field(default_factory=dict)
    """By name, what a field's values are; told from data.path if not given."""
    missing: Literal["refuse", "category"] = "refuse"
    """A value that is missing or null: refuse it, or have it as one more category."""
    informative_words: PositiveInt = 64
    """Words of the texts of sources whose presence the selector counts: those that tell the
    most of the target."""

    @model_validator(mode="after")
    def _each_once(self) -> RecordsData:
        for side, names in (("source", self.source), ("target", self.target)):
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise ValueError(f"data.{side} names {twice[0]} twice; name each field once")
        return self

    def title(self) -> str:
        """Such as records of orders.jsonl."""
        return f"records of {self.path.name if self.path is not None else 'no file'}"

    def restoration(self, strategy: str) -> Restoration:
        """Units are put back, and read as fields."""
        return Restoration("reorder")

    def answer(self, tokenizer: Tokenizer, natural: Sequence[int]) -> str | None:
        """The record as JSON."""
        from pretrain.data.tokenizers import RecordTokenizer

        assert isinstance(tokenizer, RecordTokenizer)
        return tokenizer.as_json(natural)

    def table_cells(
        self, selection: SelectionConfig, vocabulary: int, data_parallel: int
    ) -> int | None:
        """Known where all fields are, and none is a text: a row for each value of each source
        column (pairwise) or of two (operand_pair), a column for each value of each unit."""
        columns, units = (self._units(names) for names in (self.source, self.target))
        rows = {"pairwise": vocabulary * columns, "operand_pair": (vocabulary * columns) ** 2}
        if not columns or not units or selection.estimator not in rows:
            return None
        return rows[selection.estimator] * vocabulary * units

    def _units(self, names: Sequence[str]) -> int:
        """Units of these fields; 0 where they are not known. A number may have a sign."""
        given = [self.field_settings.get(name, FieldSettings()) for name in names]
        if any(each.kind in (None, "text") for each in given):
            return 0
        if any(each.width is None and each.kind != "category" for each in given):
            return 0
        return sum((each.width or 1) + (each.kind == "number") for each in given)
