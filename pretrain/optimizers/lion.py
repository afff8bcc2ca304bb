"""Lion (Chen et al., arXiv 2302.06675, algorithm 2): the sign of an interpolated momentum.

With gradient g, moment m, rate r and decay d of a weight w:

    w <- w - r (sign(beta1 m + (1 - beta1) g) + d w)
    m <- beta2 m + (1 - beta2) g

It is elementwise, so that a shard of a weight is stepped like the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from pretrain.optimizers.base import STEP, Optimizer, decay_groups
from pretrain.optimizers.eager import EagerOptimizer

MOMENT = "exp_avg"


class Lion(Optimizer):
    """One moment; the interpolated one lives for a moment beside it."""

    state: ClassVar[tuple[str, ...]] = (MOMENT,)
    working: ClassVar[int] = 4

    def build(self, module: torch.nn.Module) -> torch.optim.Optimizer:
        """See :meth:`pretrain.optimizers.base.Optimizer.build`."""
        settings = self.settings
        return LionSteps(
            decay_groups(module, settings.weight_decay),
            settings.learning_rate,
            (settings.beta1, settings.beta2),
        )


class LionSteps(EagerOptimizer):
    """The update, by torch's operations on lists of tensors.

    Args:
        groups: parameter groups, each with its weight decay.
        rate: learning rate.
        betas: of the direction, and of the moment.

    Attributes:
        found_inf: scalar on the device; where it is 1 a step changes nothing, and gradients are set
            to 0. None for a step in any case.
    """

    def __init__(
        self, groups: list[dict[str, Any]], rate: float, betas: tuple[float, float]
    ) -> None:
        super().__init__(groups, {"lr": rate, "betas": betas, "weight_decay": 0.0})
        self.found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None and p.numel()]
            if parameters:
                self._step(parameters, group)

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            kept = self.state[parameter]
            if MOMENT not in kept:
                kept[STEP] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                kept[MOMENT] = torch.zeros_like(parameter)
        gradients: list[Any] = [parameter.grad for parameter in parameters]
        moments = [self.state[parameter][MOMENT] for parameter in parameters]
        steps = [self.state[parameter][STEP] for parameter in parameters]
        rate, (beta1, beta2) = group["lr"], group["betas"]
        bad = self.found_inf
        good: Any = 1.0
        if bad is not None:
            bad = bad.to(parameters[0].device) > 0
            good = (~bad).float()
            for gradient in gradients:
                gradient.masked_fill_(bad, 0.0)  # it may not be finite, and 0 x inf is no number
        directions = torch._foreach_mul(moments, beta1)
        torch._foreach_add_(directions, gradients, alpha=1.0 - beta1)
        torch._foreach_sign_(directions)
        torch._foreach_mul_(directions, -rate * good)
        torch._foreach_mul_(parameters, _where(bad, 1.0 - rate * group["weight_decay"]))
        torch._foreach_add_(parameters, directions)
        torch._foreach_mul_(moments, _where(bad, beta2))
        torch._foreach_add_(moments, gradients, alpha=1.0 - beta2)
        torch._foreach_add_(steps, good)


def _where(bad: Tensor | None, factor: float) -> Any:
    """The factor, 1 where a step is bad."""
    if bad is None:
        return factor
    return torch.where(bad, 1.0, torch.tensor(factor, device=bad.device))
