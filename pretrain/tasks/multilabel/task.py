"""Multi-label classification as a training job sees it: sets of labels as sequences.

A model writes the labels of a text one by one and then the end; the selection says in which order
it learns to. Sets are put back into natural order before anything is scored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pretrain.config import Config
from pretrain.data.tokenizers import Tokenizer
from pretrain.errors import ConfigError
from pretrain.selection.fitter import CountingFitter
from pretrain.selection.schedule import SelectionSchedule
from pretrain.tasks.base import Evaluator
from pretrain.tasks.dataset import DatasetTask
from pretrain.tasks.multilabel.batches import LabelBatches
from pretrain.tasks.multilabel.data import Multilabel
from pretrain.tasks.multilabel.selection import LabelRule, LabelSelector

if TYPE_CHECKING:
    from pretrain.inference.forward import Forward


class MultilabelTask(DatasetTask):
    """Multi-label classification as a training job sees it.

    Raises:
        ConfigError: see :class:`pretrain.tasks.multilabel.data.Multilabel`, or
            `selection.fixed` does not fit the labels.
    """

    batch_source = LabelBatches

    def __init__(self, config: Config) -> None:
        self.config = config
        self.dataset = dataset = Multilabel(config)
        fixed, labels = config.selection.fixed, len(dataset.label_names)
        if config.selection.strategy == "fixed" and fixed is not None and len(fixed) != labels:
            raise ConfigError(
                f"selection.fixed orders {len(fixed)} labels, but {labels} are kept; name each of "
                f"0 to {labels - 1} once, numbered alphabetically"
            )
        self.tokenizer = dataset.tokenizer
        self.examples = len(dataset.train)
        self.summary = str(dataset)
        rule = LabelRule(config.selection, dataset)
        self.fitter = CountingFitter(config, rule, self.tokenizer.fingerprint)
        self.facts = {"longest": dataset.longest}

    @property
    def text_tokenizer(self) -> Tokenizer:
        """Without the labels."""
        return self.dataset.tokenizer.text

    def evaluator(self, forward: Forward, schedule: SelectionSchedule[LabelSelector]) -> Evaluator:
        """Scores the model that `forward` runs."""
        from pretrain.tasks.multilabel.evaluation import LabelEvaluator  # loads Megatron-Core

        return LabelEvaluator(self.config, forward, self.dataset, schedule.current)
