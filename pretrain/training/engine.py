"""One training step: Megatron's schedule on the modules of a DeepSpeed engine.

DeepSpeed reduces, shards and steps; Megatron runs the micro-batches through the pipeline. What
each of them leaves to the other is done here: tied and sequence-parallel gradients, the global
gradient norm without ZeRO, and the normalisation of the loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.pipeline_parallel import get_forward_backward_func
from torch import Tensor

from pretrain.config import Config
from pretrain.data.batches import Batch
from pretrain.model.gpt import GPT, document_inputs
from pretrain.topology import Topology
from pretrain.training.zero import deepspeed_config, zero_stage


@dataclass(frozen=True)
class StepResult:
    """What a step left behind.

    Attributes:
        loss_sum: summed loss of this rank's sequences in nats; 0 except on the last stage.
        target_tokens: over all data-parallel ranks.
        grad_norm: global norm before clipping.
    """

    loss_sum: Tensor
    target_tokens: int
    grad_norm: float | Tensor


def decay_groups(module: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: matrices decay, biases and norms do not."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]


class Engine:
    """The model of this process under DeepSpeed, and the step that trains it."""

    def __init__(self, config: Config, topology: Topology, chunks: Any) -> None:
        self.config = config
        self.topology = topology
        self.stage = zero_stage(config)
        self.share = config.training.global_batch // topology.data.size
        self.micro_batch = config.training.micro_batch or self.share
        self._mark_tied_copy(chunks)
        options = config.optimizer
        optimizer = torch.optim.AdamW(
            decay_groups(chunks, options.weight_decay),
            lr=options.learning_rate,
            betas=(options.beta1, options.beta2),
            eps=options.epsilon,
            fused=True,
        )
        self.deepspeed, self.optimizer, _, _ = deepspeed.initialize(
            model=chunks,
            optimizer=optimizer,
            config=deepspeed_config(config, topology.data.size),
            mpu=topology.mpu,
            dist_init_required=False,
        )
        self.chunks: list[GPT] = list(chunks)
        self.parameters = [p for p in chunks.parameters() if p.requires_grad]
        if self.stage == 3:
            self._register_output_weights()

    def _mark_tied_copy(self, chunks: Any) -> None:
        """Tied weights under a pipeline exist twice: the last stage's copy is not counted."""
        topology = self.topology
        if self.config.model.tied and topology.pipeline.size > 1 and topology.is_last_stage:
            chunks[-1].shared_embedding_or_output_weight().ds_pipe_replicated = True

    def _register_output_weights(self) -> None:
        """The loss head uses a weight of another module: ZeRO-3 has to gather it there too."""
        for chunk in self.chunks:
            if chunk.post_process:
                deepspeed.zero.register_external_parameter(chunk.loss_head, chunk.output_weight)
                deepspeed.zero.register_external_parameter(chunk, chunk.output_weight)

    def train_step(self, batch: Batch, learning_rate: float) -> StepResult:
        """Forward, backward, reduce, clip and step on this rank's share of the global batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        if not self.deepspeed.module.training:
            self.deepspeed.module.train()
        with self._gradients_reduced_at_end():
            outputs = self._run_schedule(batch)
            self._finish_model_parallel_gradients()
        grad_norm: float | Tensor
        if self.stage == 0:
            grad_norm = self._reduce_and_clip()
        self.deepspeed.set_gradient_accumulation_boundary(True)
        self.deepspeed.step()
        if self.stage:
            grad_norm = self.deepspeed.get_global_grad_norm()
        if outputs:
            loss_sum = torch.stack([output["loss_sum"] for output in outputs]).sum()
        else:
            loss_sum = torch.zeros((), device=self.topology.device)
        return StepResult(loss_sum, batch.target_tokens, grad_norm)

    def _run_schedule(self, batch: Batch) -> list[dict[str, Tensor]]:
        chunks = self.chunks
        micro_batches = list(batch.micro_batches(self.micro_batch))
        scale = self.topology.data.size / batch.target_tokens
        run = get_forward_backward_func()
        outputs: list[dict[str, Tensor]] = run(
            forward_step_func=partial(_forward_step, scale=scale),
            data_iterator=[iter(micro_batches) for _ in chunks],
            model=chunks,
            num_microbatches=len(micro_batches),
            seq_length=batch.tokens.size(1),
            micro_batch_size=self.micro_batch,
            forward_only=False,
        )
        return outputs

    @contextmanager
    def _gradients_reduced_at_end(self) -> Iterator[None]:
        """ZeRO reduces once, after every micro-batch, when the block is left."""
        self.deepspeed.set_gradient_accumulation_boundary(False)
        if self.stage == 0:
            yield
            return
        with self.deepspeed.coalesce_grad_reduction():
            yield

    def _finish_model_parallel_gradients(self) -> None:
        """Sum what tensor and pipeline ranks each computed a part of, in place."""
        topology = self.topology
        if self.config.parallel.sequence_parallel:
            for parameter in self.parameters:
                if getattr(parameter, "sequence_parallel", False) and parameter.grad is not None:
                    dist.all_reduce(parameter.grad, group=topology.tensor.group)
        if self.config.model.tied and topology.pipeline.size > 1:
            ends = {0: 0, topology.pipeline.size - 1: -1}
            if topology.pipeline.rank in ends:
                chunk = self.chunks[ends[topology.pipeline.rank]]
                weight = chunk.shared_embedding_or_output_weight()
                dist.all_reduce(weight.grad, group=parallel_state.get_embedding_group())

    def _reduce_and_clip(self) -> Tensor:
        """Average over data-parallel ranks and clip to the global norm, without ZeRO.

        Each weight is counted once: where it is split, or on tensor rank 0; copies of tied
        weights not at all.
        """
        topology = self.topology
        if topology.data.size > 1:
            self.deepspeed.set_gradient_accumulation_boundary(True)
            self.deepspeed.allreduce_gradients()
        gradients, counted = [], []
        for parameter in self.parameters:
            if parameter.grad is None:
                continue
            gradients.append(parameter.grad)
            split = getattr(parameter, "tensor_model_parallel", False)
            copy = getattr(parameter, "ds_pipe_replicated", False)
            if (split or topology.tensor.rank == 0) and not copy:
                counted.append(parameter.grad)
        norms = torch._foreach_norm(counted)
        square = torch.stack(norms).square().sum() if norms else gradients[0].new_zeros(())
        if topology.model.size > 1:
            dist.all_reduce(square, group=topology.model.group)
        norm = square.sqrt()
        if self.config.optimizer.clip_norm > 0.0:
            factor = (self.config.optimizer.clip_norm / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(gradients, factor)
        return norm

    def mean_loss(self, result: StepResult) -> float:
        """Loss per target token over the whole global batch, the same on every rank.

        Communicates and waits for the device: for logging steps only.
        """
        loss = self.topology.sum_of_last_stages(result.loss_sum.detach().clone())
        return float(loss) / result.target_tokens


def _forward_step(batches: Iterator[Batch], chunk: GPT, scale: float) -> tuple[Tensor, Any]:
    """Megatron's forward step: output of the chunk, and how to make a loss of it."""
    batch = next(batches)
    output = chunk(
        input_ids=batch.tokens,
        **document_inputs(batch.tokens, batch.positions),
        labels=batch.labels,
        loss_mask=batch.mask,
    )

    def loss(loss_sum: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        count = torch.ones((), dtype=torch.int, device=loss_sum.device)
        return loss_sum * scale, count, {"loss_sum": loss_sum.detach()}

    return output, loss
