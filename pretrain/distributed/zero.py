"""DeepSpeed's view of the configuration, and what ZeRO leaves on one rank."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pretrain.config import Config

LARGEST_BUCKET = 100_000_000
"""Gradients that DeepSpeed reduces at a time, in elements. The buffer of a bucket is allocated in
every step; smaller buckets let reduction and the backward pass overlap earlier."""


def zero_stage(config: Config, data_parallel: int) -> int:
    """ZeRO stage that DeepSpeed is given.

    bf16 and fp16 need fp32 master weights. DeepSpeed's stage-0 wrapper for them takes one Adam step
    on zero gradients at start, which stage 1 does not; so they run at stage 1 or above. In fp32
    there is nothing to shard on one data-parallel rank: stages 1 and 2 are stage 0 without copies.
    Under a pipeline all gradients are whole until its schedule is over, and only at stage 1 does
    DeepSpeed keep whole ones in fp32.
    """
    stage = config.parallel.zero_stage
    if config.training.precision != "fp32":
        if config.parallel.pipeline > 1 and accumulates_in_fp32(config, data_parallel):
            return 1
        return max(stage, 1)
    alone = data_parallel == 1 and config.parallel.offload == "none"
    return 0 if alone and stage < 3 else stage


def accumulates_in_fp32(config: Config, data_parallel: int) -> bool:
    """Whether bf16 gradients of several micro-batches are added up in fp32."""
    share = config.training.global_batch // data_parallel
    several = (config.training.micro_batch or share) < share
    return config.training.precision == "bf16" and several


@contextmanager
def sharding_optimizer() -> Iterator[None]:
    """While inside, DeepSpeed's engine takes its ZeRO optimizer, also for bf16 at stage 1 where
    gradients are added up in fp32.

    That optimizer can do so; the engine would take `BF16_Optimizer` for this one case, which
    neither leaves the norm to others nor reduces gradients that a pipeline's schedule has made.
    """
    from deepspeed.runtime.engine import DeepSpeedEngine
    from deepspeed.runtime.zero.config import ZERO_OPTIMIZATION

    def choose(engine: Any, optimizer: Any) -> str:
        return str(ZERO_OPTIMIZATION)

    usual = DeepSpeedEngine._do_optimizer_sanity_check
    DeepSpeedEngine._do_optimizer_sanity_check = choose
    try:
        yield
    finally:
        DeepSpeedEngine._do_optimizer_sanity_check = usual


def owns_norm(config: Config, data_parallel: int) -> bool:
    """Whether the gradient norm is taken and clipped here instead of by DeepSpeed.

    DeepSpeed's norm drops replicated weights of later stages without ZeRO, and waits for the device
    with it. Left to DeepSpeed: ZeRO-3, offload, and fp16, whose scale depends on it.
    """
    return (
        zero_stage(config, data_parallel) < 3
        and config.parallel.offload == "none"
        and config.training.precision != "fp16"
    )


def deepspeed_config(
    config: Config, data_parallel: int, parameters: int, pinned: bool = False
) -> dict[str, Any]:
    """DeepSpeed's own configuration.

    Args:
        data_parallel: ranks that ZeRO shards over.
        parameters: held by this rank before ZeRO shards them.
        pinned: whether offloaded state lies in pinned memory, which CUDA copies from faster.
    """
    stage = zero_stage(config, data_parallel)
    precision, offload = config.training.precision, config.parallel.offload
    bucket = max(2, min(parameters, LARGEST_BUCKET))
    zero: dict[str, Any] = {
        "stage": stage,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket + bucket % 2,
        # Reduction overlaps the backward pass; DeepSpeed waits for the device at each bucket then.
        # Under a pipeline it comes after the last one, and alone there is nothing to overlap.
        "overlap_comm": config.parallel.pipeline == 1 and data_parallel > 1,
    }
    own = owns_norm(config, data_parallel)
    if own and stage:
        zero["compute_grad_norm"] = False
    if offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": pinned}
    if offload == "parameters":
        zero["offload_param"] = {"device": "cpu", "pin_memory": pinned}
    settings: dict[str, Any] = {
        "train_batch_size": config.training.global_batch,
        # Micro-batches are counted here; to DeepSpeed a step is one.
        "train_micro_batch_size_per_gpu": config.training.global_batch // data_parallel,
        "gradient_accumulation_steps": 1,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "gradient_clipping": 0.0 if own else config.optimizer.clip_norm,
        "bf16": {"enabled": precision == "bf16", "check_grad_overflow": False},
        "fp16": {"enabled": precision == "fp16"},
        "steps_per_print": 1_000_000_000,
        # Its clock waits for the device before each forward pass and after each step.
        "timers": {"throughput": {"enabled": False}},
    }
    if precision != "fp32":
        settings["communication_data_type"] = "fp32"
    if accumulates_in_fp32(config, data_parallel):
        settings["data_types"] = {"grad_accum_dtype": "fp32"}
    return settings
