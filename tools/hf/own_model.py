"""A checkpoint's model on one process, whatever layout wrote it, as something to generate with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretrain.config import Config, load_config
from pretrain.distributed import topology
from pretrain.distributed.ranks import Ranks
from pretrain.distributed.topology import Topology
from pretrain.errors import UserError
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


class AnyOrderModel(OwnModel):
    """A model of strategy any_order. It writes an answer in the order, or adaptively, as
    `selection.decode` of its run says, and hands it over in natural order.

    Args:
        order: units as they are asked for; None for the surest next.
    """

    def __init__(self, chunk: Any, here: Topology, order: Sequence[int] | None) -> None:
        from pretrain.inference.any_order import AnyOrderDecoder
        from pretrain.inference.forward import Forward

        super().__init__(chunk, Sampling())
        self.decoder = AnyOrderDecoder(Forward(here, torch.nn.ModuleList([chunk])))
        self.order = order

    def __call__(
        self,
        tokens: list[int],
        count: int,
        allowed: Callable[[list[int]], list[int]] | None,
        end: int | None,
    ) -> list[int]:
        """See :class:`tools.hf.restored_generation.GoOn`."""
        written = self.decoder.write(np.array([tokens]), count, tokens[0], self.order)
        answer: list[int] = written.natural[0].tolist()
        return answer


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
        UserError: the checkpoint is damaged, or the model cannot draw.
    """
    sampling = sampling or Sampling()
    told = trained.config.asks_units
    if told and sampling.temperature:
        raise UserError(
            f"--temperature {sampling.temperature}: a model of selection.strategy any_order writes "
            "the tokens that it prefers; leave it out"
        )
    config = alone(trained.config)
    with topology.start(config, Ranks("none", 0, 1, 0, 1)) as here:
        from pretrain.model.gpt import build
        from pretrain.model.initialise import global_name

        (chunk,) = build(config, here, trained.rows)
        with torch.no_grad():
            for name, parameter in chunk.named_parameters():
                parameter.copy_(trained.weight(global_name(chunk, name)))
        if told:
            yield AnyOrderModel(chunk.eval(), here, trained.asked_order)
        else:
            yield OwnModel(chunk.eval(), sampling)
