"""Cross entropy and coefficient x log(Z)^2, which keeps the softmax's normaliser near 1.

Chowdhery et al., PaLM (arXiv 2204.02311), section 5; the default coefficient is theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pretrain.objectives.plain import CrossEntropy

if TYPE_CHECKING:
    from torch import Tensor


class ZLoss(CrossEntropy):
    """Per label that counts: nats + coefficient x log(Z)^2."""

    coefficient = 1e-4

    def term(self, log_z: Tensor, nats: Tensor) -> Tensor:
        """[n] of log Z [n], the whole vocabulary's."""
        return self.coefficient * log_z**2
