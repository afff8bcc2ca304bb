"""DeepSpeed's view of the configuration, and what ZeRO leaves on one rank."""

from __future__ import annotations

from typing import Any

from pretrain.config import Config


def zero_stage(config: Config) -> int:
    """ZeRO stage that DeepSpeed is given.

    bf16 needs fp32 master weights. DeepSpeed's stage-0 wrapper for them takes one Adam step on
    zero gradients at start, which stage 1 does not; so bf16 runs at stage 1 or above.
    """
    stage = config.parallel.zero_stage
    return max(stage, 1) if config.training.precision == "bf16" else stage


def deepspeed_config(config: Config, data_parallel: int) -> dict[str, Any]:
    """DeepSpeed's own configuration."""
    stage = zero_stage(config)
    bf16 = config.training.precision == "bf16"
    settings: dict[str, Any] = {
        "train_batch_size": config.training.global_batch,
        # The schedule runs the micro-batches; to DeepSpeed a step is one.
        "train_micro_batch_size_per_gpu": config.training.global_batch // data_parallel,
        "gradient_accumulation_steps": 1,
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        # Without ZeRO DeepSpeed's norm drops replicated weights of later stages: ours is used.
        "gradient_clipping": config.optimizer.clip_norm if stage else 0.0,
        "bf16": {"enabled": bf16},
        "steps_per_print": 1_000_000_000,
    }
    if bf16:
        settings["communication_data_type"] = "fp32"
    return settings


def state_bytes(config: Config, parameters: int, data_parallel: int) -> dict[str, int]:
    """Bytes of one rank's weights, gradients and optimizer state.

    Args:
        parameters: held by the rank before ZeRO shards them.
        data_parallel: ranks that ZeRO shards over.
    """
    bf16 = config.training.precision == "bf16"
    stage = zero_stage(config)
    width = 2 if bf16 else 4
    shard = -(-parameters // data_parallel)
    # AdamW's two moments in fp32, and with bf16 the fp32 master weights.
    per_parameter = 12 if bf16 else 8
    return {
        "weights": width * (shard if stage >= 3 else parameters),
        "gradients": width * (shard if stage >= 2 else parameters),
        "optimizer": per_parameter * (shard if stage >= 1 else parameters),
    }
