"""The sections `data` of text: a file that is tokenized when the run begins, or corpora that
tools.preprocess_data prepared."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from pretrain.config import SelectionConfig, Strategy
from pretrain.config.base import PositiveInt, Section
from pretrain.config.data import Restoration, TextFiles, TokenizerFile


class SentenceData(TokenizerFile):
    """What both kinds of text have in common: tokens stand in front of sentences."""

    presentation_class = "pretrain.tasks.text.presentation:TextPresentation"

    plans_sentences: ClassVar[bool] = True
    strategies: ClassVar[tuple[Strategy, ...]] = (
        "ntp", "random", "max_mi", "min_mi", "first", "blank",
    )  # fmt: skip
    estimators: ClassVar[tuple[str, ...]] = ("pmi", "npmi")

    def restoration(self, strategy: str) -> Restoration:
        """Inserted tokens are taken out."""
        return Restoration("none" if strategy == "ntp" else "insert")

    def known_vocabulary(self) -> int | None:
        """The size of the file `data.tokenizer`; errors: see the base class."""
        if self.tokenizer is None:
            return None
        from pretrain.data.tokenizers import load_tokenizer

        return load_tokenizer(self.tokenizer).size

    def table_cells(
        self, selection: SelectionConfig, vocabulary: int, data_parallel: int
    ) -> int | None:
        """A row and a column for each token."""
        return vocabulary**2 // data_parallel


class TextData(SentenceData, TextFiles):
    """A file of texts, tokenized when the run begins."""

    task_class = "pretrain.tasks.text.task:TextTask"

    task: Literal["text"] = "text"
    """Kind of examples."""
    document_gap: PositiveInt = 1
    """Blank lines that part two documents of a plain text: 1 makes every paragraph a document,
    2 every section."""

    def known_vocabulary(self) -> int | None:
        """Without a tokenizer, `data.vocabulary` words at the most; errors: see the base class."""
        return self.vocabulary if self.tokenizer is None else super().known_vocabulary()

    def title(self) -> str:
        """Such as text of plays.txt."""
        return f"text of {self.path.name if self.path is not None else 'no file'}"

    @property
    def packs_documents(self) -> bool:
        """Always."""
        return True


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


class CorpusData(SentenceData):
    """A blend of what tools.preprocess_data wrote."""

    task_class = "pretrain.tasks.text.task:CorpusTask"

    task: Literal["corpus"] = "corpus"
    """Kind of examples."""
    blend: tuple[BlendSource, ...] | None = None
    """Corpora and their weights: a list of {prefix, weight}, or of PREFIX:WEIGHT."""
    split: str = "98,1,1"
    """Shares of the documents of each source for training, validation and test, which take them in
    this order."""
    evaluate_on: Literal["validation", "test"] = "validation"
    """Which held-out documents are scored."""
    document_mask: bool = True
    """Keep packed documents apart: attention ends where a document ends, and positions begin anew.
    Otherwise a sequence is read as one text with <end> between documents."""

    counts_part: ClassVar[bool] = True

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
    def _blended(self) -> CorpusData:
        if not self.blend:
            raise ValueError(
                "data.task corpus needs data.blend, the corpora to read, for example "
                "[corpora/web:0.7, corpora/books:0.3]"
            )
        if self.tokenizer is None:
            raise ValueError(
                "data.task corpus needs data.tokenizer, the one that the corpora were prepared with"
            )
        seen: dict[str, Path] = {}
        for source in self.blend:
            file = os.path.realpath(f"{source.prefix}.bin")  # by whichever name: of a link, with ..
            if (first := seen.get(file)) is not None:
                also = "" if first == source.prefix else f", as {source.prefix} too"
                raise ValueError(
                    f"data.blend names {first} twice{also}; name it once, with the sum of the "
                    "weights"
                )
            seen[file] = source.prefix
        shares = dict(zip(("training", "validation", "test"), self.split_shares, strict=True))
        for side in ("training", self.evaluate_on):
            if not shares[side]:
                raise ValueError(
                    f"data.split {self.split} leaves nothing for {side}; the three shares are of "
                    "training, validation and test, for example 98,1,1"
                )
        return self

    def known_vocabulary(self) -> int | None:
        """The size of the file `data.tokenizer`; errors: see the base class."""
        from pretrain.data.tokenizers import load_tokenizer

        assert self.tokenizer is not None
        return load_tokenizer(self.tokenizer, any_digits=True).size

    def title(self) -> str:
        """Such as text of web, books."""
        return f"text of {', '.join(source.prefix.name for source in self.blend or ())}"

    @property
    def packs_documents(self) -> bool:
        """As `data.document_mask` says."""
        return self.document_mask
