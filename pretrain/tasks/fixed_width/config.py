"""What the sections `data` of tasks of fixed widths have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pretrain import registry
from pretrain.config import Config, DataSection, Strategy

if TYPE_CHECKING:
    from pretrain.tasks.base import Task
    from pretrain.tasks.fixed_width.data import Dataset


class FixedWidthData(DataSection):
    """The units of a target are put into one order."""

    task_class = "pretrain.tasks.fixed_width.task:FixedWidthTask"

    strategies: ClassVar[tuple[Strategy, ...]] = (
        "ntp", "reverse", "random", "max_mi", "min_mi", "fixed", "learned", "any_order",
    )  # fmt: skip
    estimators: ClassVar[tuple[str, ...]] = (
        "joint", "pairwise", "operand_pair", "v_information", *registry.ORDER_ESTIMATORS,
    )  # fmt: skip

    fixed_units = True

    dataset_class: ClassVar[str]
    """`module:Class` of the examples, made of this section."""

    def dataset(self) -> Dataset:
        """The examples; imports numpy, and reads or makes them.

        Raises:
            UserError: they cannot be read.
        """
        found: Dataset = registry.load(self.dataset_class)(self)
        return found

    def build(self, config: Config) -> Task:
        """The task; errors: see the base class."""
        task: Task = registry.load(self.task_class)(config, self.dataset())
        return task
