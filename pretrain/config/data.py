"""The section `data`: what is learned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pretrain.config.base import NonNegativeInt, PositiveInt, Section

Task = Literal["arithmetic", "multilabel", "text", "corpus"]


class BlendSource(Section):
    """A corpus and its share of the blend; also written PREFIX or PREFIX:WEIGHT."""

    prefix: Path
    """Of the .bin, .idx and .manifest.json that tools.preprocess_data wrote."""
    weight: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0
    """Share of the sequences, relative to the other sources' weights."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        prefix, _, weight = value.rpartition(":")
        return {"prefix": prefix, "weight": weight} if prefix else {"prefix": value}


class DataConfig(Section):
    """What is learned."""

    def build(self, config: Any) -> Any:
        from importlib import import_module

        names = {
            "arithmetic": ("arithmetic", "ArithmeticTask"),
            "multilabel": ("multilabel", "MultilabelTask"),
            "text": ("text", "TextTask"),
            "corpus": ("text", "CorpusTask"),
        }
        folder, name = names[self.task]
        return getattr(import_module(f"pretrain.tasks.{folder}.task"), name)(config)

    task: Task = "arithmetic"
    """Kind of examples: arithmetic (made here), multilabel (texts with sets of labels), text (a
    file, tokenized when the run begins), corpus (what tools.preprocess_data wrote)."""
    operation: Literal["addition", "subtraction", "multiplication"] = "multiplication"
    """Arithmetic operation."""
    digits: Annotated[int, Field(ge=1, le=9)] = 2
    """Digits of each operand, zero-padded."""
    digits_second: Annotated[int, Field(ge=1, le=9)] | None = None
    """Digits of the second operand, where it has others than the first."""
    examples: PositiveInt | None = None
    """Operand pairs drawn in all, a*b and b*a counted once; every pair if not given (3 digits at
    the most)."""
    path: Path | None = None
    """Texts (multilabel, text): JSON lines with `text` and, for multilabel, `labels`; or, for text,
    plain text."""
    test_path: Path | None = None
    """Held-out texts; a share of `path` if not given."""
    document_gap: PositiveInt = 1
    """Blank lines that part two documents of a plain text: 1 makes every paragraph a document,
    2 every section."""
    blend: tuple[BlendSource, ...] | None = None
    """Corpora and their weights (corpus): a list of {prefix, weight}, or of PREFIX:WEIGHT."""
    split: str = "98,1,1"
    """Shares of the documents of each source for training, validation and test, which take them in
    this order (corpus)."""
    evaluate_on: Literal["validation", "test"] = "validation"
    """Which held-out documents are scored (corpus)."""
    document_mask: bool = True
    """Keep packed documents apart: attention ends where a document ends, and positions begin anew.
    Otherwise a sequence is read as one text with <end> between documents (corpus)."""
    tokenizer: Path | None = None
    """Tokenizer of texts, as tools.train_tokenizer or Hugging Face wrote it; the words of the
    training texts by frequency if not given (a corpus needs the one that it was prepared with)."""
    vocabulary: PositiveInt = 8192
    """Words that are kept where no tokenizer is given."""
    minimum_documents: PositiveInt = 50
    """Training texts that a label must have (multilabel); rarer ones are left out."""
    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Share that is held out. a*b and b*a are always on the same side, as are equal texts."""
    split_seed: NonNegativeInt = 0
    """Seed of the split, apart from training.seed so that seeds share one test set."""

    @property
    def second_digits(self) -> int:
        """Digits of the second operand, with the default resolved."""
        return self.digits_second or self.digits

    @model_validator(mode="after")
    def _enumerable(self) -> DataConfig:
        if max(self.digits, self.second_digits) > 3 and self.examples is None:
            raise ValueError(
                f"data.digits {self.digits} has 10^{self.digits + self.second_digits} pairs; say "
                "how many to draw with data.examples, for example 1000000"
            )
        return self

    @property
    def split_shares(self) -> tuple[float, float, float]:
        """Shares of training, validation and test, as they were given."""
        training, validation, test = map(float, self.split.split(","))
        return training, validation, test

    @field_validator("split", mode="after")
    @classmethod
    def _three_shares(cls, value: str) -> str:
        if not re.fullmatch(r"\d+(\.\d+)?(,\d+(\.\d+)?){2}", value):
            raise ValueError(
                f"data.split {value!r} is not three numbers with commas between them: shares of "
                "training, validation and test, for example 98,1,1"
            )
        return value

    @model_validator(mode="after")
    def _blended(self) -> DataConfig:
        if self.task != "corpus":
            return self
        if not self.blend:
            raise ValueError(
                "data.task corpus needs data.blend, the corpora to read, for example "
                "[corpora/web:0.7, corpora/books:0.3]"
            )
        if self.tokenizer is None:
            raise ValueError(
                "data.task corpus needs data.tokenizer, the one that the corpora were prepared with"
            )
        names = [str(source.prefix) for source in self.blend]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"data.blend names {twice[0]} twice; name it once, with the sum of the weights"
            )
        shares = dict(zip(("training", "validation", "test"), self.split_shares, strict=True))
        for side in ("training", self.evaluate_on):
            if not shares[side]:
                raise ValueError(
                    f"data.split {self.split} leaves nothing for {side}; the three shares are of "
                    "training, validation and test, for example 98,1,1"
                )
        return self

    @model_validator(mode="after")
    def _of_use(self) -> DataConfig:
        if self.task in ("multilabel", "text") and self.path is None:
            raise ValueError(
                f"data.task {self.task} needs data.path, the file that holds the training texts"
            )
        for name, tasks in _FIELDS_OF.items():
            value = getattr(self, name)
            if self.task not in tasks and value != DataConfig.model_fields[name].default:
                raise ValueError(
                    f"data.{name} {value} is of no use to data.task {self.task}; leave it out"
                )
        return self


_FIELDS_OF = {
    "operation": ("arithmetic",),
    "digits": ("arithmetic",),
    "digits_second": ("arithmetic",),
    "examples": ("arithmetic",),
    "path": ("multilabel", "text"),
    "test_path": ("multilabel", "text"),
    "document_gap": ("text",),
    "blend": ("corpus",),
    "split": ("corpus",),
    "evaluate_on": ("corpus",),
    "document_mask": ("corpus",),
    "tokenizer": ("multilabel", "text", "corpus"),
    "vocabulary": ("multilabel", "text"),
    "minimum_documents": ("multilabel",),
    "test_fraction": ("arithmetic", "multilabel", "text"),
    "split_seed": ("arithmetic", "multilabel", "text"),
}
"""Tasks that a field of `data` is of use to."""
