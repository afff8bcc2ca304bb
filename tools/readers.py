"""Processes that only read: what tools start to count together, without a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pretrain.config import Config, load_config
from pretrain.distributed.ranks import Ranks

if TYPE_CHECKING:
    import torch.distributed as dist


def reading_config(given: Config, estimator: str | None = None) -> Config:
    """The configuration with a layout in which every process reads, and a strategy that is fitted.

    Args:
        estimator: instead of `selection.estimator`.
    """
    changed = given.model_dump()
    if not given.selection.fitted:
        finder = "criterion" if given.selection.any_order else "strategy"
        changed["selection"][finder] = "max_mi"
    if estimator is not None:
        changed["selection"]["estimator"] = estimator
    changed["selection"] |= {"table": None, "refresh_every": 0}
    changed["run"]["device"] = "cpu"
    changed["parallel"] = {}
    changed["training"]["micro_batch"] = None
    return load_config(None, changed)


@contextmanager
def reading_together(config: Config, ranks: Ranks) -> Iterator[dist.ProcessGroup | None]:
    """The group of all processes, once they have joined each other; None for one process."""
    if ranks.world_size == 1:
        yield None
        return
    from pretrain.distributed import topology as topologies

    training = config.training.model_copy(update={"global_batch": ranks.world_size})
    with topologies.start(config.model_copy(update={"training": training}), ranks) as topology:
        assert topology.readers is not None
        yield topology.readers.group
