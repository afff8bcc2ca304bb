"""The section `data` of texts with sets of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pretrain.config import Config, EstimatorName, Strategy
from pretrain.config.base import PositiveInt
from pretrain.config.data import Restoration, TextFiles

if TYPE_CHECKING:
    from pretrain.tasks.base import Task
    from pretrain.tasks.presentation import Presentation


class MultilabelData(TextFiles):
    """Texts with sets of labels."""

    task: Literal["multilabel"] = "multilabel"
    """Kind of examples."""
    minimum_documents: PositiveInt = 50
    """Training texts that a label must have; rarer ones are left out."""

    strategies: ClassVar[tuple[Strategy, ...]] = (
        "ntp", "reverse", "random", "frequency", "max_mi", "min_mi", "fixed",
    )  # fmt: skip
    estimators: ClassVar[tuple[EstimatorName, ...]] = ("presence", "presence_top", "pmi", "npmi")

    def build(self, config: Config) -> Task:
        """The task; errors: see the base class."""
        from pretrain.tasks.multilabel.task import MultilabelTask

        return MultilabelTask(config)

    def presentation(self) -> Presentation:
        """Labels of each text."""
        from pretrain.tasks.multilabel.presentation import MultilabelPresentation

        return MultilabelPresentation()

    def title(self) -> str:
        """Such as labels of debtags.jsonl."""
        return f"labels of {self.path.name if self.path is not None else 'no file'}"

    def restoration(self, strategy: Strategy) -> Restoration:
        """The labels that are written are a set."""
        return Restoration("labels")
