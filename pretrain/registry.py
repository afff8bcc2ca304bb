"""Every task, objective, optimizer, tracker and estimator of orders by its configured name.

The one place that knows them all: an entry is `module:Class`, imported only when it is asked for,
so that reading a configuration loads nothing that it does not name. A task's class is that of its
`data` section (:class:`pretrain.config.data.DataSection`), which builds the task.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

TASKS: dict[str, str] = {
    "arithmetic": "pretrain.tasks.arithmetic.config:ArithmeticData",
    "multilabel": "pretrain.tasks.multilabel.config:MultilabelData",
    "records": "pretrain.tasks.records.config:RecordsData",
    "text": "pretrain.tasks.text.config:TextData",
    "corpus": "pretrain.tasks.text.config:CorpusData",
}
OBJECTIVES: dict[str, str] = {
    "cross_entropy": "pretrain.objectives.plain:CrossEntropy",
    "z_loss": "pretrain.objectives.z_loss:ZLoss",
    "weighted_cross_entropy": "pretrain.objectives.weighted:WeightedCrossEntropy",
    "top": "pretrain.objectives.top:TokenOrder",
    "mi_bag": "pretrain.objectives.mi_bag:WeightedBag",
}
OPTIMIZERS: dict[str, str] = {
    "adamw": "pretrain.optimizers.adamw:AdamW",
    "lion": "pretrain.optimizers.lion:Lion",
}
TRACKERS: dict[str, str] = {
    "wandb": "pretrain.training.trackers.weights_and_biases:WeightsAndBiases",
    "mlflow": "pretrain.training.trackers.ml_flow:MLflow",
}
ORDER_ESTIMATORS: dict[str, str] = {
    "any_order": "pretrain.selection.estimators.any_order:AnyOrder",
    "k_local": "pretrain.selection.estimators.k_local:KLocalOrder",
    "chain": "pretrain.selection.estimators.chain:ChainOrder",
}


def load(entry: str) -> Any:
    """The class that an entry names.

    Raises:
        ImportError, AttributeError: there is no such module or class.
    """
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)
