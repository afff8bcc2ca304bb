"""The section `data` of texts with sets of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pretrain.config import Strategy
from pretrain.config.base import PositiveInt
from pretrain.config.data import Restoration, TextFiles

if TYPE_CHECKING:
    from pretrain.data.tokenizers import Tokenizer


class MultilabelData(TextFiles):
    """Texts with sets of labels."""

    task_class = "pretrain.tasks.multilabel.task:MultilabelTask"
    presentation_class = "pretrain.tasks.multilabel.presentation:MultilabelPresentation"

    task: Literal["multilabel"] = "multilabel"
    """Kind of examples."""
    minimum_documents: PositiveInt = 50
    """Training texts that a label must have; rarer ones are left out."""

    read_fields: ClassVar[tuple[str, ...]] = ("text", "labels")
    strategies: ClassVar[tuple[Strategy, ...]] = (
        "ntp", "reverse", "random", "frequency", "max_mi", "min_mi", "fixed", "any_order",
    )  # fmt: skip
    estimators: ClassVar[tuple[str, ...]] = ("presence", "presence_top", "pmi", "npmi")

    def title(self) -> str:
        """Such as labels of debtags.jsonl."""
        return f"labels of {self.path.name if self.path is not None else 'no file'}"

    def restoration(self, strategy: str) -> Restoration:
        """The labels that are written are a set."""
        return Restoration("labels")

    def model_tokenizer(self, text: Tokenizer, unit_names: Sequence[str]) -> Tokenizer:
        """Labels are tokens after those of the texts."""
        from pretrain.data.tokenizers import LabelTokenizer

        return LabelTokenizer(text, unit_names)
