"""Records as a training job sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pretrain.config import Config
from pretrain.selection.schedule import SelectionSchedule
from pretrain.tasks.base import Evaluator
from pretrain.tasks.fixed_width.selection import PositionSelector
from pretrain.tasks.fixed_width.task import FixedWidthTask
from pretrain.tasks.records.data import RecordDataset

if TYPE_CHECKING:
    from pretrain.inference.forward import Forward


class RecordsTask(FixedWidthTask):
    """The fields of a target are written unit by unit, in one order of all units."""

    dataset: RecordDataset

    def __init__(self, config: Config, dataset: RecordDataset) -> None:
        super().__init__(config, dataset)
        fields = dataset.tokenizer.target
        told = ", ".join(f"{f.name} ({f.kind}, {f.units})" for f in fields)
        self.summary += f"; to be written, with their units: {told}"

    def evaluator(
        self, forward: Forward, schedule: SelectionSchedule[PositionSelector]
    ) -> Evaluator:
        """Scores the model that `forward` runs."""
        from pretrain.tasks.records.evaluation import RecordEvaluator  # loads Megatron-Core

        return RecordEvaluator(self.config, forward, self.dataset)
