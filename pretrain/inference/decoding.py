"""Greedy decoding: the token that the model prefers, one by one, on any layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from pretrain.data.batch import ASKED
from pretrain.inference.forward import Forward
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


class DecodingRows(NamedTuple):
    """Rows that get their next token together.

    Attributes:
        tokens: [b, s] so far.
        position: [b] of the last token of each.
        allowed: [b, vocabulary] bool; None for any token.
        asked: [b, s] int64, for a model that is told what it is asked for: the place in natural
            order of what follows each token.
    """

    tokens: Tensor
    position: Tensor
    allowed: Tensor | None = None
    asked: Tensor | None = None

    def take(self, rows: Tensor) -> DecodingRows:
        """Those of these numbers."""
        return DecodingRows(*(None if part is None else part[rows] for part in self))  # type: ignore[arg-type]

    def cut(self, length: int) -> DecodingRows:
        """The first `length` positions, filled up where there are fewer."""
        return self._replace(
            tokens=_cut(self.tokens, length),
            asked=None if self.asked is None else _cut(self.asked, length),
        )


def _cut(inputs: Tensor, length: int) -> Tensor:
    inputs = inputs[:, :length]
    return torch.nn.functional.pad(inputs, (0, length - inputs.size(1)))


class GreedyDecoder:
    """Generates targets token by token on any layout; every rank gets the result.

    Args:
        forward: runs the model; its `check` is called before each token.
    """

    def __init__(self, forward: Forward) -> None:
        self.forward = forward
        self.topology = forward.topology

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
            allowed = None
            if constraint is not None:
                allowed = constraint.allowed(rows, written[rows, :unit])
            places = begins[rows] + unit
            chosen = self._next(DecodingRows(tokens[rows], places - 1, allowed))
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

    def _next(self, rows: DecodingRows) -> Tensor:
        """Most likely token after each row's last, [b] int64 on every rank of the model copy; of
        those that are allowed."""
        tokens = rows.tokens
        chosen = torch.empty(len(tokens), dtype=torch.int64, device=tokens.device)
        return self._asked_for(rows, self._chosen, chosen)

    def _asked_for(
        self,
        rows: DecodingRows,
        result: Callable[[Tensor, DecodingRows], Tensor],
        found: Tensor,
    ) -> Tensor:
        """What `result` makes of the logits of each row's last token, on every rank of the model
        copy.

        Args:
            found: of its shape and type for all rows; its values are not used.
        """
        # Causal: what comes later does not matter, so it is left out, but for sequence
        # parallelism, which needs a length that divides.
        visible = int(rows.position.max()) + 1
        if self._sequence_parallel:
            visible = -(-visible // self.topology.tensor.size) * self.topology.tensor.size
        # Rows that the schedule asks for beyond those that are there repeat the last one.
        count, parts = rows.tokens.size(0), self.forward.parts
        size = -(-count // parts)
        filled = torch.arange(parts * size, device=found.device).clamp(max=count - 1)
        shown = rows.cut(visible)
        micro_batches = [shown.take(part) for part in filled.split(size)]
        results = self.forward.run(micro_batches, (size, visible), self._logits, result)
        if self.topology.is_last_stage:
            found = torch.cat(results)[:count]
        return self.topology.from_last_stage(found)

    @property
    def _sequence_parallel(self) -> bool:
        """Whether each tensor rank holds a part of the sequence until the projection gathers it."""
        return bool(self.forward.chunks[0].config.sequence_parallel)

    def _logits(self, chunk: GPT, rows: DecodingRows) -> Tensor:
        """Of each row's last token [b, 1, v]; of all under sequence parallelism [b, s, v]."""
        places = torch.arange(rows.tokens.size(1), device=rows.tokens.device)
        told = {} if rows.asked is None else {ASKED: rows.asked}
        with nullcontext() if self._sequence_parallel else projecting(chunk, rows.position):
            output: Tensor = chunk(
                input_ids=rows.tokens,
                position_ids=places.expand_as(rows.tokens),
                attention_mask=None,
                **told,
            )
        return output

    def _last(self, logits: Tensor, rows: DecodingRows) -> Tensor:
        """[b, v] of each row's last token."""
        if not self._sequence_parallel:
            return logits[:, 0]
        numbers = torch.arange(len(rows.tokens), device=logits.device)
        return logits[numbers, rows.position]

    def _chosen(self, logits: Tensor, rows: DecodingRows) -> Tensor:
        """Argmax over a vocabulary that is split over tensor ranks; the lowest id wins ties."""
        tensor, logits_bv, allowed = self.topology.tensor, self._last(logits, rows), rows.allowed
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
