"""What tasks have in common whose training examples are numbered and lie in memory."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from pretrain.data.batch import Rows, Sampler
from pretrain.distributed.topology import Topology
from pretrain.selection.schedule import SelectionSchedule
from pretrain.tasks.base import Task

Data = TypeVar("Data")
Selector = TypeVar("Selector")


@dataclass(frozen=True)
class DatasetBatches(Generic[Data, Selector]):
    """Batches of a dataset's training examples, targets as they are selected.

    Attributes:
        dataset: where examples come from.
        sampler: which examples a step sees.
        selection_at: step -> selector; called on every rank for each step once, in order.
        rank, ranks: this reader among the readers; what others pass here is not used.
        length: positions of the model.
    """

    fields: ClassVar[tuple[str, ...]] = ()

    dataset: Data
    sampler: Sampler
    selection_at: Callable[[int], Selector]
    rank: int
    ranks: int
    length: int

    @abstractmethod
    def read(self, step: int, selector: Selector) -> Rows:
        """This reader's share of a step."""


class DatasetTask(Task):
    """A task of a dataset, with `train` and `test`, each with the checksum of its content.

    Attributes:
        dataset: where examples come from.
        batch_source: makes its batches.
    """

    dataset: Any
    batch_source: ClassVar[type[DatasetBatches[Any, Any]]]

    @property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of both sides."""
        return {"training": self.dataset.train.checksum, "held_out": self.dataset.test.checksum}

    def batches(
        self, schedule: SelectionSchedule[Any], sampler: Sampler, topology: Topology
    ) -> DatasetBatches[Any, Any]:
        """Batches of this rank."""
        return self.batch_source(
            self.dataset,
            sampler,
            schedule,
            topology.reader_rank,
            topology.data.size,
            self.config.model.sequence_length,
        )
