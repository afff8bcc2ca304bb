"""A task in one file: the letters of a word, written backwards behind it.

    abca|acba

What the files of a task's folder hold stands here in their order: the section of the
configuration, examples, how a model is scored, and the task that puts them together. How units
are ordered and batches are made is that of every task of fixed widths.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from pretrain.config import Config, SelectionConfig, Strategy
from pretrain.config.base import PositiveInt
from pretrain.data.tokenizers import SymbolTokenizer
from pretrain.selection.schedule import SelectionSchedule
from pretrain.tasks.base import Evaluation, Evaluator, Metric, Task
from pretrain.tasks.fixed_width.config import FixedWidthData
from pretrain.tasks.fixed_width.data import Examples
from pretrain.tasks.fixed_width.selection import PositionSelector
from pretrain.tasks.fixed_width.task import FixedWidthTask

if TYPE_CHECKING:
    from pretrain.inference.forward import Forward

LETTERS, MARK = "abcd", "|"
HELD_OUT = 8
"""One word of so many."""


class ToyData(FixedWidthData):
    """Words of a few letters, the last of which is often an a."""

    task: Literal["toy"] = "toy"
    """Kind of examples."""
    letters: PositiveInt = 4
    """Of each word."""

    strategies: ClassVar[tuple[Strategy, ...]] = ("ntp", "reverse", "max_mi")
    estimators: ClassVar[tuple[str, ...]] = ("pairwise", "joint")

    def dataset(self) -> Words:
        """Made here."""
        return Words(self)

    def build(self, config: Config) -> Task:
        """The task, with an evaluation of its own."""
        return ToyTask(config, self.dataset())

    def title(self) -> str:
        """Such as 4 letters backwards."""
        return f"{self.letters} letters backwards"

    def known_vocabulary(self) -> int:
        """Letters, the mark and padding."""
        return SymbolTokenizer(LETTERS + MARK).size

    def table_cells(
        self, selection: SelectionConfig, vocabulary: int, data_parallel: int
    ) -> int | None:
        """A row for each value of each letter, a column for each value of each unit."""
        return (len(LETTERS) * self.letters) ** 2 if selection.estimator == "pairwise" else None


class Words:
    """Every word; implements :class:`pretrain.tasks.fixed_width.data.Dataset`.

    The letter at place p is one of the first 4 - p, so that the fewer the later: a unit tells the
    less the later its letter stands.
    """

    values = len(LETTERS)
    whole = True

    def __init__(self, data: ToyData) -> None:
        self.tokenizer = SymbolTokenizer(LETTERS + MARK)
        self.unit_names = tuple(f"letter {n}" for n in reversed(range(data.letters)))
        kinds = [max(1, len(LETTERS) - place) for place in range(data.letters)]
        words = np.indices(kinds).reshape(data.letters, -1).T
        mark = np.full((len(words), 1), len(LETTERS))
        source = np.concatenate([words, mark], axis=1)
        self.examples = Examples(source, words[:, ::-1], tuple(range(data.letters)))
        held_out = np.arange(len(words)) % HELD_OUT == 0
        self.train, self.test = map(self._some, (~held_out, held_out))

    def every(self) -> Examples:
        """Of both sides."""
        return self.examples

    def _some(self, chosen: np.ndarray) -> Examples:
        source, target = self.examples.source[chosen], self.examples.target[chosen]
        return replace(self.examples, source=source, target=target)


class ToyTask(FixedWidthTask):
    """Words backwards, as a training job sees them."""

    def evaluator(
        self, forward: Forward, schedule: SelectionSchedule[PositionSelector]
    ) -> Evaluator:
        """Scores the model that `forward` runs."""
        return LetterEvaluator(super().evaluator(forward, schedule))


class LetterEvaluator:
    """Says how many letters are right, besides whole words."""

    def __init__(self, words: Evaluator) -> None:
        self.words = words

    def run(self, selector: Any) -> Evaluation:
        """Score; every rank calls it and gets the result."""
        found = self.words.run(selector)
        wrong = len(found.unit_accuracy) - sum(found.unit_accuracy)
        metric = Metric("wrong_letters", wrong, "lower", "letters")
        return replace(found, headline=metric.name, metrics=(metric, *found.metrics))
