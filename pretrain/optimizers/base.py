"""What is asked of an optimizer: the engine, the checkpoints and the planner ask this object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from pretrain import registry
from pretrain.config import Config, OptimizerConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STEP = "step"
"""Name, in the state of each tensor, of the updates made: an fp32 scalar on its device."""


class Optimizer:
    """Builds the torch optimizer of a configuration, and says what it keeps.

    Args:
        settings: `optimizer` of the configuration.
    """

    state: ClassVar[tuple[str, ...]]
    """Names of the fp32 tensors that it keeps of each weight; checkpoints hold them by name."""
    working: ClassVar[int] = 0
    """Bytes per weight that live for a moment in a step."""

    def __init__(self, settings: OptimizerConfig) -> None:
        self.settings = settings

    def build(self, module: torch.nn.Module) -> torch.optim.Optimizer:
        """The torch optimizer of a module's weights. Of each it keeps `state` and STEP."""
        raise NotImplementedError

    @property
    def state_bytes(self) -> int:
        """Bytes per weight, the weight itself not counted."""
        return 4 * len(self.state)

    def skip_where(self, built: Any, bad: Tensor) -> None:
        """Have the next step change nothing where `bad`, a scalar on the device, is 1. It is not
        waited for.

        Args:
            built: what :meth:`build` returned.
        """
        built.found_inf = bad

    def state_of(self, built: Any, key: Tensor) -> dict[str, Tensor]:
        """What is kept of one tensor, as the first step makes it where there is none yet."""
        import torch

        kept = built.state[key]
        if STEP not in kept:
            kept[STEP] = torch.zeros((), dtype=torch.float32, device=key.device)
        for name in self.state:
            if name not in kept:
                kept[name] = torch.zeros_like(key.data)
        return {name: kept[name] for name in self.state}


def decay_groups(module: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: matrices decay, biases and norms do not."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]


def updates_of(built: Any) -> int:
    """Updates that a torch optimizer has made; steps that were skipped are none."""
    return max((int(kept[STEP]) for kept in built.state.values() if STEP in kept), default=0)


def set_updates(built: Any, updates: int) -> None:
    """Say how many updates the state that is there has been through."""
    for kept in built.state.values():
        kept[STEP].fill_(float(updates))


def optimizer_of(config: Config) -> Optimizer:
    """The optimizer that `optimizer.name` names."""
    made = registry.load(registry.OPTIMIZERS[config.optimizer.name])(config.optimizer)
    return cast(Optimizer, made)
