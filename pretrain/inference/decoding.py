"""Greedy decoding: the token that the model prefers, one by one, on any layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from megatron.core.pipeline_parallel import get_forward_backward_func
from torch import Tensor

from pretrain.config import Config
from pretrain.distributed.topology import Topology
from pretrain.model.gpt import GPT


class Constraint(Protocol):
    """Which tokens may come next.

    Attributes:
        end_id: token after which a row is done.
    """

    end_id: int

    def allowed(self, rows: Tensor, written_rn: Tensor) -> Tensor:
        """[r, vocabulary] bool tokens that may come next; at least one of each row.

        Args:
            rows: [r] int64 numbers of the rows that are asked about.
            written_rn: [r, n] int64 tokens that they have so far.
        """
        ...


class GreedyDecoder:
    """Generates targets token by token on any layout; every rank gets the result.

    Attributes:
        check: called by all ranks before each token, at the same places; may end an evaluation by
            an error.
    """

    def __init__(self, config: Config, topology: Topology, chunks: list[GPT]) -> None:
        self.config = config
        self.topology = topology
        self.chunks = chunks
        self.check: Callable[[], None] = lambda: None
        # The interleaved schedule takes a multiple of the pipeline's size.
        self.parts = topology.pipeline.size if topology.virtual_pipeline > 1 else 1

    @torch.no_grad()
    def generate(
        self,
        source: np.ndarray,
        units: int,
        pad_id: int,
        lengths: np.ndarray | None = None,
        constraint: Constraint | None = None,
    ) -> np.ndarray:
        """[b, S] token ids -> [b, units] the tokens that the model prefers, one by one.

        Args:
            source: what the model goes on from.
            units: most tokens to write.
            pad_id: fills rows that are done earlier.
            lengths: [b] tokens of each source; S of each if not given.
            constraint: what may be written; whatever the model prefers if not given. All
                data-parallel ranks have one, or none has.
        """
        count, width = source.shape
        device = self.topology.device
        tokens = torch.full((count, width + units), pad_id, dtype=torch.int64)
        tokens[:, :width] = torch.from_numpy(source)
        tokens = tokens.to(device)
        begins = torch.from_numpy(np.full(count, width) if lengths is None else lengths).to(device)
        written = torch.full((count, units), pad_id, dtype=torch.int64, device=device)
        rows = torch.arange(count, device=device)
        for unit in range(units):
            self.check()
            allowed = None
            if constraint is not None:
                allowed = constraint.allowed(rows, written[rows, :unit])
            places = begins[rows] + unit
            chosen = self._next(tokens[rows], places - 1, allowed)
            tokens[rows, places] = written[rows, unit] = chosen
            if constraint is not None:
                rows = self._unfinished(rows, chosen, constraint.end_id)
                if not len(rows):
                    break
        return written.cpu().numpy()

    def _unfinished(self, rows: Tensor, chosen: Tensor, end_id: int) -> Tensor:
        """Rows that have not ended; none once all data-parallel ranks are done.

        Until then a rank that is done goes on with one row, since weights may be sharded over
        the ranks and gathered by all of them together.
        """
        left = rows[chosen != end_id]
        most = torch.tensor(len(left), device=rows.device)
        if self.topology.data.size > 1:
            dist.all_reduce(most, dist.ReduceOp.MAX, group=self.topology.data.group)
        return rows[:1] if int(most) and not len(left) else left

    def _next(self, tokens: Tensor, position: Tensor, allowed: Tensor | None) -> Tensor:
        """Most likely token after each row's `position` [b], [b] int64 on every rank of the model
        copy; of those that are `allowed` [b, vocabulary]."""
        # Causal: what comes later does not matter, so it is left out, but for sequence
        # parallelism, which needs a length that divides.
        visible = int(position.max()) + 1
        if self.config.parallel.sequence_parallel:
            visible = -(-visible // self.topology.tensor.size) * self.topology.tensor.size
        inputs = tokens[:, :visible]
        if inputs.size(1) < visible:
            inputs = torch.nn.functional.pad(inputs, (0, visible - inputs.size(1)))
        # Rows that the schedule asks for beyond those that are there repeat the last one.
        count = tokens.size(0)
        size = -(-count // self.parts)
        filled = torch.arange(self.parts * size, device=tokens.device).clamp(max=count - 1)
        batches = [
            (inputs[part], position[part], None if allowed is None else allowed[part])
            for part in filled.split(size)
        ]
        choices: list[Tensor] = get_forward_backward_func()(
            forward_step_func=self._forward,
            data_iterator=[iter(batches) for _ in self.chunks],
            model=self.chunks,
            num_microbatches=self.parts,
            seq_length=visible,
            micro_batch_size=size,
            forward_only=True,
            collect_non_loss_data=True,
        )
        if self.topology.is_last_stage:
            chosen = torch.cat(choices)[:count]
        else:
            chosen = torch.empty(count, dtype=torch.int64, device=tokens.device)
        return self.topology.from_last_stage(chosen)

    def _forward(self, batches: Any, chunk: GPT) -> tuple[Tensor, Any]:
        tokens, position, allowed = next(batches)
        places = torch.arange(tokens.size(1), device=tokens.device).expand_as(tokens)
        if self.config.parallel.sequence_parallel:
            # Each tensor rank holds a part of the sequence until the projection gathers it.
            output = chunk(input_ids=tokens, position_ids=places, attention_mask=None)
        else:
            with projecting(chunk, position):
                output = chunk(input_ids=tokens, position_ids=places, attention_mask=None)
            position = torch.zeros_like(position)
        rows = torch.arange(tokens.size(0), device=tokens.device)
        return output, lambda logits, non_loss_data: self._choose(logits[rows, position], allowed)

    def _choose(self, logits_bv: Tensor, allowed: Tensor | None) -> Tensor:
        """Argmax over a vocabulary that is split over tensor ranks; the lowest id wins ties."""
        tensor = self.topology.tensor
        if allowed is not None:
            own = allowed.split(logits_bv.size(1), dim=1)[tensor.rank]
            logits_bv = logits_bv.masked_fill(~own, -torch.inf)
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


@contextmanager
def projecting(chunk: GPT, position: Tensor) -> Iterator[None]:
    """Only each row's hidden state at `position` [b] is projected to logits, [b, 1, v]: a
    vocabulary is far wider than a model."""
    if not chunk.post_process:
        yield
        return

    def pick(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden_sbh, *rest = inputs
        places = position[None, :, None].expand(1, -1, hidden_sbh.size(2))
        return (hidden_sbh.gather(0, places), *rest)

    hook = chunk.output_layer.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        hook.remove()
