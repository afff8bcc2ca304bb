"""What a run is trained on, in a few numbers: a run that goes on has to be the same run.

Ids of tokens, targets and held-out examples all follow from the data and the tokenizer. Where one
of them has changed, weights that were trained before mean something else, and nothing would say so
but the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretrain.errors import UserError

if TYPE_CHECKING:
    from pretrain.distributed.topology import Topology
    from pretrain.tasks.base import Task

FINGERPRINTS = "fingerprints"
"""Under this name they stand in a checkpoint's small state, and in result.json."""
NAMES = {
    "tokenizer": "the tokenizer",
    "training": "the training data",
    "held_out": "the held-out data",
}
PLACES = {
    "tokenizer": ("data.tokenizer",),
    "training": ("data.path", "data.fields"),
    "held_out": ("data.test_path",),
}
"""Fields that say where it lies."""


def fingerprints(task: Task, topology: Topology) -> dict[str, str]:
    """SHA-256 of tokenizer and data by the names in NAMES; empty but on the first rank, which
    alone compares and writes them."""
    if not topology.is_first_rank:
        return {}
    return {"tokenizer": task.tokenizer.fingerprint, **task.fingerprints}


def known(state: Mapping[str, Any]) -> dict[str, str]:
    """Those that a checkpoint's small state has; an older one has the tokenizer's alone."""
    found: dict[str, str] = state.get(FINGERPRINTS) or {}
    if not found and state.get("tokenizer"):
        return {"tokenizer": state["tokenizer"]}
    return found


def moved(state: Mapping[str, Any]) -> list[str]:
    """Fields that may change, since the content of what they name is known."""
    return [place for name in known(state) for place in PLACES.get(name, ())]


def check_same_data(state: Mapping[str, Any], now: Mapping[str, str], source: Path) -> None:
    """Refuse to go on with another tokenizer or other data; every rank calls it.

    Args:
        state: small state of the checkpoint `source`.
        now: of this run, on the first rank.

    Raises:
        UserError: on every rank, with what differs and the way out.
    """
    import torch.distributed as dist

    before = known(state)
    different = [
        f"{NAMES.get(name, name)} was {before[name][:12]} and is {value[:12]}"
        for name, value in now.items()
        if before.get(name, value) != value
    ]
    told = ["; ".join(different)]
    dist.broadcast_object_list(told, src=0)
    if told[0]:
        raise UserError(
            f"{source} was trained on something else: {told[0]} (fingerprints of the content, "
            "wherever it lies); put the texts and the tokenizer's file back as they were, choose "
            "another run.directory, or start over with --checkpoint.resume never --run.overwrite "
            "true"
        )
