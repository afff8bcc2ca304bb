"""What a training job asks of a task: examples, how they are selected, how a model is scored."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from pretrain.config import Config
from pretrain.data.batch import Sampler
from pretrain.data.loader import BatchSource
from pretrain.data.tokenizers import Tokenizer
from pretrain.distributed.topology import Topology
from pretrain.selection.fitter import CountingFitter
from pretrain.selection.schedule import SelectionSchedule

if TYPE_CHECKING:
    from pretrain.inference.forward import Forward

SAMPLES = 12
"""Examples of which an evaluation shows what the model made."""


@dataclass(frozen=True)
class Metric:
    """A number that says how good a model is, and how to read it.

    Attributes:
        name: as records have it.
        value: in `unit`; not finite where a model's numbers are not.
        better: which way is better; None where neither is.
        unit: share (in [0, 1]), bits, nats, perplexity (equal ratios are equal steps), ratio, or
            what is counted.
        comparable: whether models of other strategies may be compared by it.
    """

    name: str
    value: float
    better: Literal["higher", "lower"] | None
    unit: str
    comparable: bool = True


@dataclass(frozen=True)
class Evaluation:
    """Scores of held-out examples, and a few samples.

    Attributes:
        headline: name of the metric that counts, one that has a better way.
        metrics: every metric.
        unit_accuracy: share of right values per unit, natural order; empty where targets have no
            such units.
        examples: number of examples scored.
        seconds: wall time.
        samples: what the model made of a few examples, as JSON values.
    """

    headline: str
    metrics: tuple[Metric, ...]
    unit_accuracy: tuple[float, ...]
    examples: int
    seconds: float
    samples: tuple[dict[str, Any], ...]

    @property
    def values(self) -> dict[str, float]:
        """The value of every metric by its name."""
        return {metric.name: metric.value for metric in self.metrics}

    @property
    def figures(self) -> dict[str, float]:
        """Every metric, and the accuracy of each unit as `unit_NUMBER`."""
        units = {f"unit_{unit}": value for unit, value in enumerate(self.unit_accuracy)}
        return self.values | units

    @property
    def value(self) -> float:
        """The metric that counts."""
        return self.values[self.headline]

    @property
    def not_finite(self) -> tuple[str, ...]:
        """Metrics that are NaN or infinite, the one that counts first; records have null there."""
        names = (name for name, value in self.values.items() if not math.isfinite(value))
        return tuple(sorted(names, key=lambda name: name != self.headline))

    @property
    def higher_is_better(self) -> bool:
        """Of the headline."""
        return any(m.name == self.headline and m.better == "higher" for m in self.metrics)

    def __str__(self) -> str:
        return f"{self.headline.replace('_', ' ')} {self.value:.4f}"

    def record(self) -> dict[str, Any]:
        """What files of a run say of it, as JSON values."""
        return {
            "headline": self.headline,
            "higher_is_better": self.higher_is_better,
            "metrics": self.values,
            "measures": {
                metric.name: {
                    "better": metric.better,
                    "unit": metric.unit,
                    "comparable": metric.comparable,
                }
                for metric in self.metrics
            },
            "unit_accuracy": self.unit_accuracy,
            "examples": self.examples,
            "seconds": self.seconds,
            "samples": self.samples,
        }


class Evaluator(Protocol):
    """Scores the model on held-out examples."""

    def run(self, selector: Any) -> Evaluation:
        """Score; every rank calls it and gets the result.

        Args:
            selector: what selects targets now, of the kind that the task's fitter makes.
        """
        ...


class Task(ABC):
    """A task as a training job sees it.

    Attributes:
        config: of the run.
        tokenizer: of the model's tokens.
        examples: what the sampler draws from: training examples, or sequences of a text.
        fitter: how targets are selected.
        summary: how much data there is, for people.
        facts: what a checkpoint says of the task, JSON values, so that the model can be used
            without the data.
    """

    config: Config
    tokenizer: Tokenizer
    examples: int
    fitter: CountingFitter[Any]
    summary: str
    facts: Mapping[str, Any] = {}

    @property
    def text_tokenizer(self) -> Tokenizer:
        """Of the texts that a model is given, which its run keeps where it is made of them."""
        return self.tokenizer

    @property
    @abstractmethod
    def fingerprints(self) -> Mapping[str, str]:
        """SHA-256 of the data, `training` and `held_out`, computed when it is asked for: a run goes
        on only with the same. What a task lets change, it leaves out and knows again by itself, as
        the sources of a blend."""

    def sampler(self, saved: Mapping[str, Any], step: int) -> Sampler:
        """Which examples each step sees: here, a function of the seed alone.

        Args:
            saved: the small state of the checkpoint that the run goes on from; empty without one.
            step: steps done then.
        """
        training = self.config.training
        return Sampler(self.examples, training.global_batch, training.seed)

    @abstractmethod
    def batches(
        self, schedule: SelectionSchedule[Any], sampler: Sampler, topology: Topology
    ) -> BatchSource:
        """Batches of this rank, their targets as the schedule's selectors have them."""

    @abstractmethod
    def evaluator(self, forward: Forward, schedule: SelectionSchedule[Any]) -> Evaluator:
        """Scores the model that `forward` runs. Every rank makes it, before batches are read, for
        it may select together with the others."""


def equal_batches(share: int, most: int) -> list[np.ndarray]:
    """Row numbers of batches of one size, at most `most`, that cover `share` rows.

    As many on every rank where `share` is the largest of all ranks, since weights may be sharded
    over them. A rank takes numbers past its own rows for rows that it has already had.
    """
    size = min(most, share)
    count = -(-share // size)
    return np.split(np.arange(count * size), count)
