"""Asking in the middle of an evaluation whether the run is to stop."""

from __future__ import annotations

import torch
import torch.distributed as dist

from pretrain.distributed.topology import Topology
from pretrain.spans import tick
from pretrain.training.health.stopping import Stopper


class StoppedError(Exception):
    """The run was asked to stop, and all ranks know it at the same place."""


def check_together(stopper: Stopper, topology: Topology) -> None:
    """Ask all ranks whether one was asked to stop, by a signal or the file; every rank calls
    it. A time limit lets an evaluation end, so that a run that is only evaluated gets there.

    Raises:
        StoppedError: on all of them, if so.
    """
    tick()
    asked = torch.tensor(float(stopper.is_urgent), device=topology.device)
    if topology.ranks.world_size > 1:
        dist.all_reduce(asked, dist.ReduceOp.MAX)
    if asked:
        raise StoppedError
