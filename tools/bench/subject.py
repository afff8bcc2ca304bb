"""Our own sides of the benchmarks: the engine as users get it, and its model without the engine."""

from __future__ import annotations

import torch

from pretrain.config import Config
from pretrain.data.batch import Batch, made_up_batch
from pretrain.distributed import topology as topologies
from pretrain.distributed.ranks import Ranks, discover
from tools.bench.interleaved import Orders

ALONE = Ranks("none", 0, 1, 0, 1)
TOKENIZER = 2
"""Tokens that the batches are said to have; the vocabulary is `model.vocabulary_size`."""


def batch_of(config: Config, ranks: int = 1) -> Batch:
    """What a process of every side trains on, one of `ranks` data-parallel ones."""
    share = config.training.global_batch // ranks
    vocabulary = config.vocabulary_size(TOKENIZER)
    return made_up_batch(share, config.model.sequence_length, vocabulary, ranks)


def run_ours(config: Config, orders: Orders) -> None:
    """The training step of a run, in one process or in those that the environment tells of."""
    with topologies.start(config, discover()) as topology:
        from pretrain.model.gpt import build
        from pretrain.training.engine import Engine

        orders.model_follows(topology.device)
        batch = batch_of(config, topology.data.size).to(topology.device)
        chunks = build(config, topology, config.vocabulary_size(TOKENIZER))
        engine = Engine(config, topology, chunks)
        rate = config.optimizer.learning_rate
        orders.serve(lambda: engine.train_step(batch, rate))


def run_bare(config: Config, orders: Orders) -> None:
    """Our model in the usual loop, without DeepSpeed and without a schedule: forward, backward,
    clip and torch's fused AdamW, in bf16 on fp32 copies of the weights. That is all that an engine
    on one process has to do."""
    with topologies.start(config, ALONE) as topology:
        from pretrain.model.gpt import DTYPES, build, document_inputs
        from pretrain.optimizers.base import decay_groups

        orders.model_follows(topology.device)
        batch = batch_of(config).to(topology.device)
        parts = list(batch.micro_batches(config.training.micro_batch or len(batch.tokens)))
        chunks = build(config, topology, config.vocabulary_size(TOKENIZER))
        chunks.to(DTYPES[config.training.precision])
        (model,) = chunks
        parameters = list(chunks.parameters())
        masters = {p: p if p.dtype == torch.float32 else p.detach().float() for p in parameters}
        copies = [master for p, master in masters.items() if master is not p]
        options = config.optimizer
        groups = decay_groups(chunks, options.weight_decay)
        for group in groups:
            group["params"] = [masters[p] for p in group["params"]]
        optimizer = torch.optim.AdamW(
            groups,
            lr=options.learning_rate,
            betas=(options.beta1, options.beta2),
            eps=options.epsilon,
            fused=True,
        )

        def step() -> None:
            for parameter in parameters:
                parameter.grad = None
            for part in parts:
                loss = model(
                    input_ids=part.tokens,
                    **document_inputs(part.tokens, part.positions),
                    labels=part.labels,
                    loss_mask=part.mask,
                )
                (loss / batch.target_tokens).backward()
            for parameter in parameters if copies else ():
                assert parameter.grad is not None
                masters[parameter].grad = parameter.grad.float()
            if options.clip_norm > 0.0:
                torch.nn.utils.clip_grad_norm_(masters.values(), options.clip_norm)
            optimizer.step()
            if copies:
                with torch.no_grad():
                    torch._foreach_copy_([*parameters], copies)

        orders.serve(step)
