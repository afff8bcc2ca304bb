"""One training step on a DeepSpeed engine, through Megatron's schedule where there is a pipeline.

DeepSpeed reduces, shards and steps; Megatron runs micro-batches through pipeline stages. What each
of them leaves to the other is done here: gradients that several model-parallel ranks share, the
global gradient norm, and the normalisation of the loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import deepspeed
import torch
from megatron.core.pipeline_parallel import get_forward_backward_func
from torch import Tensor

from pretrain.config import Config
from pretrain.data.batch import ASKED, Batch
from pretrain.distributed.topology import Topology
from pretrain.distributed.zero import (
    accumulates_in_fp32,
    deepspeed_config,
    owns_norm,
    sharding_optimizer,
    zero_stage,
)
from pretrain.model.gpt import GPT, document_inputs, seed_dropout
from pretrain.objectives.base import objective_of
from pretrain.objectives.head import Targets
from pretrain.optimizers.base import optimizer_of
from pretrain.spans import span
from pretrain.training import gradients
from pretrain.training.health.spikes import SpikeGuard
from pretrain.training.health.step_guard import NOT_FINITE, SPIKE

_SCALER = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


@dataclass(frozen=True)
class StepResult:
    """What a step left behind.

    Attributes:
        loss_sum: the objective's, of this rank's sequences; 0 except on the last stage. [terms]
            where records are to have each summand.
        target_tokens: what it is divided by, of all data-parallel ranks.
        grad_norm: global norm before clipping.
        skipped: why nothing was updated on any rank, NOT_FINITE or SPIKE; 0 where all was.
    """

    loss_sum: Tensor
    target_tokens: float
    grad_norm: float | Tensor
    skipped: Tensor


class Engine:
    """The model of this process under DeepSpeed, and the step that trains it.

    Attributes:
        terms: names of the summands of the loss, where records are to have each.
        method: the optimizer of the configuration.
        built: the torch optimizer that it built, under DeepSpeed's.
    """

    def __init__(self, config: Config, topology: Topology, chunks: Any) -> None:
        self.config = config
        self.topology = topology
        self.stage = zero_stage(config, topology.data.size)
        self.owns_norm = owns_norm(config, topology.data.size)
        self.steps = 0
        threshold = config.training.spike_zscore
        self.spikes = None if threshold is None else SpikeGuard(threshold, topology.device)
        self.share = config.training.global_batch // topology.data.size
        self.micro_batch = config.training.micro_batch or self.share
        self._mark_tied_copy(chunks)
        self.terms = objective_of(config).terms
        self.method = optimizer_of(config)
        optimizer = self.method.build(chunks)
        held = sum(parameter.numel() for parameter in chunks.parameters())
        self.in_fp32 = accumulates_in_fp32(config, topology.data.size)
        with sharding_optimizer() if self.in_fp32 else nullcontext():
            self.deepspeed, self.optimizer, _, _ = deepspeed.initialize(
                model=chunks,
                optimizer=optimizer,
                config=deepspeed_config(
                    config, topology.data.size, held, topology.device.type == "cuda"
                ),
                mpu=topology.mpu,
                dist_init_required=False,
            )
        # Its hooks are held by weights that they hold: never collected otherwise.
        topology.leaving.callback(self.deepspeed.destroy)
        if self.stage == 0 and topology.data.size == 1:
            # Copies every gradient into a buffer and back to average it over one rank.
            self.deepspeed.enable_backward_allreduce = False
        self.built: Any = self.optimizer.optimizer if self.stage else self.optimizer
        self.chunks: list[GPT] = list(chunks)
        self.parameters = [p for p in chunks.parameters() if p.requires_grad]
        if self.stage == 3:
            self._register_output_weights()
        if topology.pipeline.size == 1:
            gradients.sum_as_computed(self.parameters, topology)
        elif self.in_fp32:
            self._accumulate_as_computed()
        elif config.training.precision == "fp16":
            for chunk in self.chunks:
                chunk.config.grad_scale_func = self.optimizer.scale_if_loss

    def _mark_tied_copy(self, chunks: Any) -> None:
        """Tied weights under a pipeline exist twice: the last stage's copy is not counted."""
        topology = self.topology
        if self.config.model.tied and topology.pipeline.size > 1 and topology.is_last_stage:
            chunks[-1].shared_embedding_or_output_weight().ds_pipe_replicated = True

    def _register_output_weights(self) -> None:
        """The loss head uses a weight of another module: ZeRO-3 has to gather it there too."""
        for chunk in self.chunks:
            if chunk.post_process:
                for module in (chunk.loss_head, chunk.nats_head, chunk):
                    deepspeed.zero.register_external_parameter(module, chunk.output_weight)

    def _accumulate_as_computed(self) -> None:
        """Have the gradient of each micro-batch added in fp32 to those before it, in
        `grad_accum`, where DeepSpeed reduces it from."""

        def add(parameter: torch.nn.Parameter) -> None:
            self.optimizer._fill_param_grad_accum_attribute(parameter)

        for parameter in self.parameters:
            parameter.register_post_accumulate_grad_hook(add)

    def train_step(self, batch: Batch, learning_rate: float) -> StepResult:
        """Forward, backward, reduce, clip and step on this rank's share of the global batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        if not self.deepspeed.module.training:
            self.deepspeed.module.train()
        if self.config.model.dropout > 0.0:
            seed_dropout(self.config.training.seed, self.steps, self.topology)
        if self.topology.pipeline.size == 1:
            losses = self._accumulate(batch)
        else:
            losses = self._run_pipeline(batch)
        grad_norm: float | Tensor
        with span("optimizer"):
            if self.owns_norm:
                grad_norm = self._clip()
                skipped = NOT_FINITE * (~torch.isfinite(grad_norm)).float()
                if self.spikes is not None:
                    skipped = self._guarded(self.spikes, losses, batch.target_tokens, skipped)
                self.method.skip_where(self.built, (skipped > 0).float())
            self.deepspeed.step()
        if not self.owns_norm:
            grad_norm = self.deepspeed.get_global_grad_norm()
            skipped = torch.tensor(NOT_FINITE * (not self.deepspeed.was_step_applied()))
        self.steps += 1
        return StepResult(self._summed(losses), batch.target_tokens, grad_norm, skipped)

    def _summed(self, losses: list[Tensor]) -> Tensor:
        if losses:
            return torch.stack(losses).sum(0)
        shape = (len(self.terms),) if self.terms else ()
        return torch.zeros(shape, device=self.topology.device)

    def _guarded(
        self, guard: SpikeGuard, losses: list[Tensor], target_tokens: float, skipped: Tensor
    ) -> Tensor:
        """`skipped`, or SPIKE where this step's loss over all ranks is one."""
        loss = self.topology.sum_of_last_stages(_added(self._summed(losses))) / target_tokens
        skipped = torch.where((skipped == 0) & guard.is_spike(loss), SPIKE, skipped)
        guard.add(loss, skipped == 0)
        return skipped

    def _accumulate(self, batch: Batch) -> list[Tensor]:
        """Gradients of all micro-batches; DeepSpeed reduces them while the backward pass runs."""
        scale = self.topology.data.size / batch.target_tokens
        parts = list(batch.micro_batches(self.micro_batch))
        losses = []
        for number, part in enumerate(parts, start=1):
            self.deepspeed.set_gradient_accumulation_boundary(number == len(parts))
            with span("forward"):
                loss_sum = self.deepspeed(**_inputs(part))
            with span("backward"):
                self.deepspeed.backward(_added(loss_sum) * scale)
            losses.append(loss_sum.detach())
        return losses

    def _run_pipeline(self, batch: Batch) -> list[Tensor]:
        """Gradients of all micro-batches through Megatron's schedule, reduced once at the end."""
        self.deepspeed.set_gradient_accumulation_boundary(False)
        if self.stage:
            with self.deepspeed.coalesce_grad_reduction():
                losses = self._run_schedule(batch)
                self._sum_shared_gradients()
            self.deepspeed.set_gradient_accumulation_boundary(True)
            return losses
        losses = self._run_schedule(batch)
        self._sum_shared_gradients()
        self.deepspeed.set_gradient_accumulation_boundary(True)
        if self.topology.data.size > 1:
            self.deepspeed.allreduce_gradients()
        return losses

    def _run_schedule(self, batch: Batch) -> list[Tensor]:
        micro_batches = list(batch.micro_batches(self.micro_batch))
        scale = self.topology.data.size / batch.target_tokens
        run = get_forward_backward_func()
        outputs: list[dict[str, Tensor]] = run(
            forward_step_func=partial(_forward_step, scale=scale),
            data_iterator=[iter(micro_batches) for _ in self.chunks],
            model=self.chunks,
            num_microbatches=len(micro_batches),
            seq_length=batch.tokens.size(1),
            micro_batch_size=self.micro_batch,
            forward_only=False,
        )
        return [output["loss_sum"] for output in outputs]

    def _sum_shared_gradients(self) -> None:
        """Sum what tensor and pipeline ranks each computed a part of, in place."""
        pipeline = self.topology.pipeline
        name = "grad_accum" if self.in_fp32 else "grad"
        gradients.sum_sequence_parallel(self.parameters, self.topology, name)
        ends = {0: 0, pipeline.size - 1: -1}
        if self.config.model.tied and pipeline.rank in ends:
            chunk = self.chunks[ends[pipeline.rank]]
            gradients.sum_tied(chunk.shared_embedding_or_output_weight(), name)

    def _clip(self) -> Tensor:
        """Clip to the global norm, which each weight is counted in once."""
        topology = self.topology
        if self.stage:
            held = self._sharded_gradients()
        else:
            held = [(p.grad, p) for p in self.parameters if p.grad is not None]
        # Shards differ over all ranks, whole gradients over those of one model copy.
        group = topology.everyone if self.stage else topology.model.group
        counted = [grad for grad, p in held if gradients.is_counted(p, topology)]
        norm = gradients.global_norm(counted, topology, group)
        gradients.clip([grad for grad, _ in held], norm, self.config.optimizer.clip_norm)
        return norm

    def _sharded_gradients(self) -> list[tuple[Tensor, Any]]:
        """This rank's shards (ZeRO 1 and 2), each with the parameter that it is a part of."""
        shards: list[tuple[Tensor, Any]] = []
        filled = self.optimizer.averaged_gradients
        # Sums depend on the order, and DeepSpeed's on whether reduction overlaps: here it does not.
        backwards = self.in_fp32 and self.topology.pipeline.size == 1
        for number in sorted(filled, reverse=True) if backwards else filled:
            real = (grad for grad in filled[number] if not getattr(grad, "_zero_padding", False))
            shards += zip(real, self.optimizer.params_in_partition[number], strict=False)
        return shards

    def small_state(self) -> dict[str, Any]:
        """What goes into a checkpoint beside weights and moments: the scale of an fp16 loss, and
        losses that later ones are compared with."""
        state: dict[str, Any] = {}
        if self.config.training.precision == "fp16":
            scaler = self.optimizer.loss_scaler
            state["loss_scaler"] = {name: getattr(scaler, name) for name in _SCALER}
        if self.spikes is not None:
            state["spikes"] = self.spikes.state()
        return state

    def restore_small(self, state: dict[str, Any]) -> None:
        """Put :meth:`small_state` back."""
        if self.config.training.precision == "fp16":
            for name, value in state.get("loss_scaler", {}).items():
                if name in _SCALER:
                    setattr(self.optimizer.loss_scaler, name, value)
        if self.spikes is not None and "spikes" in state:
            self.spikes.restore(state["spikes"])

    def mean_loss(self, result: StepResult) -> float:
        """Loss per target token over the whole global batch, the same on every rank.

        Communicates and waits for the device: for logging steps only.
        """
        loss = self.topology.sum_of_last_stages(_added(result.loss_sum).detach().clone())
        return float(loss) / result.target_tokens

    def mean_terms(self, result: StepResult) -> dict[str, float]:
        """The summands of :meth:`mean_loss` by name; none where it is not to be taken apart."""
        if not self.terms:
            return {}
        sums = self.topology.sum_of_last_stages(result.loss_sum.detach().clone()).tolist()
        return {
            name: value / result.target_tokens for name, value in zip(self.terms, sums, strict=True)
        }


def _inputs(batch: Batch) -> dict[str, Any]:
    """What a chunk's forward takes of a batch."""
    return {
        "input_ids": batch.tokens,
        **document_inputs(batch.tokens, batch.positions),
        **{name: batch.fields[name] for name in (ASKED,) if name in batch.fields},
        "labels": Targets(batch.labels, batch.mask, batch.fields, batch.positions),
    }


def _added(loss_sum: Tensor) -> Tensor:
    """What is minimised: the summands of a loss together."""
    return loss_sum.sum() if loss_sum.dim() else loss_sum


def _forward_step(batches: Iterator[Batch], chunk: GPT, scale: float) -> tuple[Tensor, Any]:
    """Megatron's forward step: output of the chunk, and how to make a loss of it."""
    with span("forward"):
        output = chunk(**_inputs(next(batches)))

    def loss(loss_sum: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        count = torch.ones((), dtype=torch.int, device=loss_sum.device)
        return _added(loss_sum) * scale, count, {"loss_sum": loss_sum.detach()}

    return output, loss
