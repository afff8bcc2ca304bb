"""How the next token is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: likeliest tokens that are drawn from; 0 for all.
        top_p: share of the probability that is drawn from, likeliest tokens first.
        seed: of the generator.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def for_transformers(self) -> dict[str, Any]:
        """Arguments of transformers' `generate`."""
        if self.temperature == 0.0:
            return {"do_sample": False}
        return {
            "do_sample": True,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
        }

    def choose(self, logits: Tensor, generator: torch.Generator) -> int:
        """One token of [v] logits."""
        if self.temperature == 0.0:
            return int(logits.argmax())
        import torch

        ranked, tokens = (logits / self.temperature).sort(descending=True, stable=True)
        if self.top_k:
            ranked, tokens = ranked[: self.top_k], tokens[: self.top_k]
        shares = ranked.softmax(dim=0)
        # A token stays while those before it have not reached the share.
        shares = shares.where(shares.cumsum(dim=0) - shares < self.top_p, 0.0)
        return int(tokens[torch.multinomial(shares, 1, generator=generator)])
