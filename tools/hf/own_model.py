"""A checkpoint's model on one process, whatever layout wrote it, as something to generate with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pretrain.config import Config, load_config
from pretrain.distributed import topology
from pretrain.distributed.ranks import Ranks
from tools.hf.sampling import Sampling
from tools.hf.trained import Trained


class OwnModel:
    """Megatron-Core's model of a checkpoint."""

    def __init__(self, chunk: Any, sampling: Sampling) -> None:
        self.chunk = chunk
        self.sampling = sampling
        self.generator = torch.Generator().manual_seed(sampling.seed)

    @torch.no_grad()
    def logits(self, tokens: Tensor) -> Tensor:
        """[b, s] -> [b, s, v] on the CPU."""
        places = torch.arange(tokens.size(1), device=self._device).expand_as(tokens)
        output: Tensor = self.chunk(
            input_ids=tokens.to(self._device), position_ids=places, attention_mask=None
        )
        return output.float().cpu()

    @property
    def _device(self) -> torch.device:
        return next(iter(self.chunk.parameters())).device

    def __call__(
        self,
        tokens: list[int],
        count: int,
        allowed: Callable[[list[int]], list[int]] | None,
        end: int | None,
    ) -> list[int]:
        """See :class:`tools.hf.restored_generation.GoOn`."""
        written: list[int] = []
        while len(written) < count and (not written or written[-1] != end):
            logits = self._next(tokens + written)
            if allowed is not None:
                open_to = torch.full_like(logits, -torch.inf)
                open_to[allowed(written)] = 0.0
                logits = logits + open_to
            written.append(self.sampling.choose(logits, self.generator))
        return written

    @torch.no_grad()
    def _next(self, tokens: list[int]) -> Tensor:
        """[v] logits of the token after these."""
        from pretrain.inference.decoding import projecting

        with projecting(self.chunk, torch.tensor([len(tokens) - 1], device=self._device)):
            return self.logits(torch.tensor([tokens]))[0, 0]


def alone(config: Config) -> Config:
    """The configuration of the same model on one process, in fp32."""
    values = config.model_dump(mode="json")
    values["parallel"] = {}
    values["training"] |= {
        "global_batch": 1,
        "micro_batch": None,
        "precision": "fp32",
        "recompute": "none",
        "compile": False,
    }
    values["profile"] = {}
    return load_config(None, values)


@contextmanager
def own_model(trained: Trained, sampling: Sampling | None = None) -> Iterator[OwnModel]:
    """The model of a checkpoint.

    Raises:
        UserError: the checkpoint is damaged.
    """
    config = alone(trained.config)
    with topology.start(config, Ranks("none", 0, 1, 0, 1)) as here:
        from pretrain.model.gpt import build
        from pretrain.model.initialise import global_name

        (chunk,) = build(config, here, trained.rows)
        with torch.no_grad():
            for name, parameter in chunk.named_parameters():
                parameter.copy_(trained.weight(global_name(chunk, name)))
        yield OwnModel(chunk.eval(), sampling or Sampling())
