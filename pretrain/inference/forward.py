"""The model run forward only, in any layout.

The one place that knows Megatron's schedule for it. What goes in and what is made of the last
stage's output are functions of whoever asks; every rank calls :meth:`Forward.run` together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from megatron.core.pipeline_parallel import get_forward_backward_func
from torch import Tensor

from pretrain.data.batch import Batch
from pretrain.distributed.topology import Topology
from pretrain.model.gpt import GPT, document_inputs

Part = TypeVar("Part")
"""A micro-batch: a :class:`Batch`, or whatever `call` and `result` take."""


class Forward:
    """Runs micro-batches through all pipeline stages, without gradients or dropout.

    Args:
        topology: who holds what.
        module: the model chunks of this process.
        check: called by all ranks before each :meth:`run`, at the same places; may end what is
            under way by an error.
    """

    def __init__(
        self,
        topology: Topology,
        module: torch.nn.ModuleList,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.topology = topology
        self.module = module
        self.check = check

    @property
    def chunks(self) -> list[Any]:
        """The model chunks of this process, :class:`pretrain.model.gpt.GPT`."""
        return list(self.module)

    @property
    def vocabulary(self) -> int:
        """Rows of the undivided model's embedding."""
        return int(self.chunks[0].vocab_size)

    @property
    def parts(self) -> int:
        """Micro-batches that are run together at least: the interleaved schedule takes a multiple
        of the pipeline's size. Cut what there is into a multiple of it where that is possible."""
        topology = self.topology
        return topology.pipeline.size if topology.virtual_pipeline > 1 else 1

    @torch.no_grad()
    def run(
        self,
        micro_batches: Sequence[Part],
        shape: tuple[int, int],
        call: Callable[[GPT, Part], Tensor],
        result: Callable[[Tensor, Part], Tensor],
    ) -> list[Tensor]:
        """What `result` makes of each micro-batch, on the last stage; an empty list on others.

        Args:
            micro_batches: as many on every rank, each of `shape`. A number that is no multiple of
                `parts` is filled up with the last one, whose further results are dropped.
            shape: sequences of a micro-batch, and their length.
            call: has a chunk compute a micro-batch; returns the chunk's output.
            result: made of the last stage's output and the micro-batch.
        """
        self.check()
        if self.module.training:
            self.module.eval()
        more = -len(micro_batches) % self.parts
        filled = [*micro_batches, *[micro_batches[-1]] * more]
        size, length = shape

        def step(waiting: Any, chunk: GPT) -> tuple[Tensor, Callable[..., Tensor]]:
            part = next(waiting)
            return call(chunk, part), lambda output, non_loss_data: result(output, part)

        results: list[Tensor] = get_forward_backward_func()(
            forward_step_func=step,
            data_iterator=[iter(filled) for _ in self.chunks],
            model=self.chunks,
            num_microbatches=len(filled),
            seq_length=length,
            micro_batch_size=size,
            forward_only=True,
            collect_non_loss_data=True,
        )
        return results[: len(micro_batches)] if self.topology.is_last_stage else []


def token_nats(chunk: GPT, batch: Batch) -> Tensor:
    """A `call` of :meth:`Forward.run`: on the last stage the negative log-likelihood of each label
    in nats, [b, s]. It holds all logits of a micro-batch."""
    output: Tensor = chunk(
        input_ids=batch.tokens,
        **document_inputs(batch.tokens, batch.positions),
        labels=batch.labels,
    )
    return output


def summed_nats(chunk: GPT, batch: Batch) -> Tensor:
    """A `call` of :meth:`Forward.run`: on the last stage the sum over tokens of mask x negative
    log-likelihood in nats, whatever the objective of training. It never holds all logits."""
    output: Tensor = chunk(
        input_ids=batch.tokens,
        **document_inputs(batch.tokens, batch.positions),
        labels=batch.labels,
        loss_mask=batch.mask,
    )
    return output
