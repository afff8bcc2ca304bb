"""AdamW (Loshchilov and Hutter, arXiv 1711.05101), torch's fused one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pretrain.optimizers.base import Optimizer, decay_groups

if TYPE_CHECKING:
    import torch


class AdamW(Optimizer):
    """Two moments; torch's kernel leaves everything as it is where a step is bad."""

    state: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")

    def build(self, module: torch.nn.Module) -> torch.optim.Optimizer:
        """See :meth:`pretrain.optimizers.base.Optimizer.build`."""
        from pretrain.optimizers.eager import EagerAdamW

        settings = self.settings
        return EagerAdamW(
            decay_groups(module, settings.weight_decay),
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            eps=settings.epsilon,
            fused=True,
        )
