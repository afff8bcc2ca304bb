"""Arithmetic as a training job sees it: digits of answers are put into one order."""

from __future__ import annotations

from pretrain.config import Config
from pretrain.tasks.arithmetic.config import ArithmeticData
from pretrain.tasks.arithmetic.data import Arithmetic
from pretrain.tasks.fixed_width.task import FixedWidthTask


class ArithmeticTask(FixedWidthTask):
    """Arithmetic as a training job sees it.

    Raises:
        ConfigError: see :class:`FixedWidthTask`.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config, Arithmetic(ArithmeticData.of(config)))
