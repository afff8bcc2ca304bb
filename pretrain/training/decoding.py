"""Greedy decoding: the token that the model prefers, one by one, on any layout."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from megatron.core.pipeline_parallel import get_forward_backward_func
from torch import Tensor

from pretrain.config import Config
from pretrain.model.gpt import GPT
from pretrain.topology import Topology


class GreedyDecoder:
    """Generates targets token by token on any layout; every rank gets the result."""

    def __init__(self, config: Config, topology: Topology, chunks: list[GPT]) -> None:
        self.config = config
        self.topology = topology
        self.chunks = chunks
        # The interleaved schedule takes a multiple of the pipeline's size.
        self.parts = topology.pipeline.size if topology.virtual_pipeline > 1 else 1

    @torch.no_grad()
    def generate(self, source: np.ndarray, units: int, pad_id: int) -> np.ndarray:
        """[b, S] token ids -> [b, units] the tokens that the model prefers, one by one."""
        rows, width = source.shape
        padded_rows = -(-rows // self.parts) * self.parts
        tokens = torch.full((padded_rows, width + units), pad_id, dtype=torch.int64)
        tokens[:rows, :width] = torch.from_numpy(source)
        tokens = tokens.to(self.topology.device)
        for unit in range(units):
            tokens[:, width + unit] = self._next(tokens, width + unit - 1)
        return tokens[:rows, width:].cpu().numpy()

    def _next(self, tokens: Tensor, position: int) -> Tensor:
        """Most likely token after `position`, [b] int64 on every rank of the model copy."""
        # Causal: what comes later does not matter, so it is left out, but for sequence
        # parallelism, which needs a length that divides.
        visible = position + 1
        if self.config.parallel.sequence_parallel:
            visible = -(-visible // self.topology.tensor.size) * self.topology.tensor.size
        inputs = tokens[:, :visible]
        if inputs.size(1) < visible:
            inputs = torch.nn.functional.pad(inputs, (0, visible - inputs.size(1)))
        size = tokens.size(0) // self.parts
        choices: list[Tensor] = get_forward_backward_func()(
            forward_step_func=partial(_forward, position=position, choose=self._choose),
            data_iterator=[iter(inputs.split(size)) for _ in self.chunks],
            model=self.chunks,
            num_microbatches=self.parts,
            seq_length=visible,
            micro_batch_size=size,
            forward_only=True,
            collect_non_loss_data=True,
        )
        pipeline = self.topology.pipeline
        if self.topology.is_last_stage:
            chosen = torch.cat(choices)
        else:
            chosen = torch.empty(tokens.size(0), dtype=torch.int64, device=tokens.device)
        if pipeline.size > 1:
            last = dist.get_global_rank(pipeline.group, pipeline.size - 1)
            dist.broadcast(chosen, last, group=pipeline.group)
        return chosen

    def _choose(self, logits_bv: Tensor) -> Tensor:
        """Argmax over a vocabulary that is split over tensor ranks; the lowest id wins ties."""
        tensor = self.topology.tensor
        best, index = logits_bv.float().max(dim=1)
        if tensor.size == 1:
            return index
        index = index + tensor.rank * logits_bv.size(1)
        all_best = [torch.empty_like(best) for _ in range(tensor.size)]
        all_index = [torch.empty_like(index) for _ in range(tensor.size)]
        dist.all_gather(all_best, best, group=tensor.group)
        dist.all_gather(all_index, index, group=tensor.group)
        winner = torch.stack(all_best).argmax(dim=0, keepdim=True)
        return torch.stack(all_index).gather(0, winner).squeeze(0)


def _forward(batches: Any, chunk: GPT, position: int, choose: Any) -> tuple[Tensor, Any]:
    tokens = next(batches)
    positions = torch.arange(tokens.size(1), device=tokens.device).expand_as(tokens)
    output = chunk(input_ids=tokens, position_ids=positions, attention_mask=None)
    return output, lambda logits, non_loss_data: choose(logits[:, position])
