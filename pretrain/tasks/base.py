"""What a training job asks of a task: examples, how they are selected, how a model is scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pretrain.config import Config
from pretrain.data.batch import Sampler
from pretrain.data.loader import BatchSource
from pretrain.data.tokenizers import Tokenizer
from pretrain.distributed.topology import Topology
from pretrain.selection.schedule import Fitter, SelectionSchedule
from pretrain.selection.selector import Selection

if TYPE_CHECKING:
    from pretrain.inference.decoding import GreedyDecoder

SAMPLES = 12
"""Examples of which an evaluation shows what the model made."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of held-out examples, and a few samples.

    Attributes:
        headline: name of the metric that counts.
        higher_is_better: of the headline.
        metrics: every metric by name; shares are in [0, 1].
        unit_accuracy: share of right values per unit, natural order; empty where targets have no
            such units.
        examples: number of examples scored.
        seconds: wall time.
        samples: what the model made of a few examples, as JSON values.
    """

    headline: str
    higher_is_better: bool
    metrics: dict[str, float]
    unit_accuracy: tuple[float, ...]
    examples: int
    seconds: float
    samples: tuple[dict[str, Any], ...]

    @property
    def value(self) -> float:
        """The metric that counts."""
        return self.metrics[self.headline]

    def __str__(self) -> str:
        return f"{self.headline.replace('_', ' ')} {self.value:.4f}"


def equal_batches(share: int, most: int) -> list[np.ndarray]:
    """Row numbers of batches of one size, at most `most`, that cover `share` rows.

    As many on every rank where `share` is the largest of all ranks, since weights may be sharded
    over them. A rank takes numbers past its own rows for rows that it has already had.
    """
    size = min(most, share)
    count = -(-share // size)
    return np.split(np.arange(count * size), count)


class Evaluator(Protocol):
    """Scores the model on held-out examples.

    Attributes:
        decoder: what it writes with; its `check` is called throughout.
    """

    decoder: GreedyDecoder

    def run(self, selection: Selection) -> Evaluation:
        """Score; every rank calls it and gets the result.

        Args:
            selection: how targets are predicted now.
        """
        ...


class FixedExamples:
    """Work on one set of examples, drawn alike throughout a run."""

    config: Config
    examples: int

    def sampler(self, saved: Mapping[str, Any], step: int) -> Sampler:
        """Which examples each step sees: a function of the seed alone."""
        training = self.config.training
        return Sampler(self.examples, training.global_batch, training.seed)


class Work(Protocol):
    """A task as a training job sees it.

    Attributes:
        tokenizer: of the model's tokens.
        examples: what the sampler draws from: training examples, or sequences of a text.
        fitter: how targets are selected.
        summary: how much data there is, for people.
        facts: what a checkpoint says of the task, JSON values, so that the model can be used
            without the data.
        fingerprints: SHA-256 of the data: `training`, `held_out`. A run goes on only with the same;
            what a task lets change, it leaves out and checks by itself (the sources of a blend).
    """

    tokenizer: Tokenizer
    examples: int
    fitter: Fitter
    summary: str
    facts: dict[str, Any]

    @property
    def fingerprints(self) -> dict[str, str]:
        """See above; computed when it is asked for."""
        ...

    def sampler(self, saved: Mapping[str, Any], step: int) -> Sampler:
        """Which examples each step sees.

        Args:
            saved: the small state of the checkpoint that the run goes on from; empty without one.
            step: steps done then.
        """
        ...

    def source(
        self, schedule: SelectionSchedule, sampler: Sampler, topology: Topology
    ) -> BatchSource:
        """Batches of this rank."""
        ...

    def evaluator(self, topology: Topology, module: Any, schedule: SelectionSchedule) -> Evaluator:
        """Scores the model chunks in `module`."""
        ...


def build_work(config: Config) -> Work:
    """The task that `data` describes, checked against the model's sequence length."""
    if config.data.task == "multilabel":
        from pretrain.tasks.multilabel.task import MultilabelWork

        return MultilabelWork(config)
    if config.data.task == "corpus":
        from pretrain.tasks.text.corpus_task import CorpusWork

        return CorpusWork(config)
    if config.data.task == "text":
        from pretrain.tasks.text.task import TextWork

        return TextWork(config)
    from pretrain.tasks.arithmetic.task import ArithmeticWork

    return ArithmeticWork(config)
