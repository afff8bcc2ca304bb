"""Why flags of Megatron-LM have no place in a configuration of ours."""

from __future__ import annotations

SPEED = "how Megatron-LM computes it, not what"
OWN = "done here by itself"
MODEL = "no part of the models here"
LAUNCHER = "torchrun's own"
BEGINNINGS = ("--nproc", "--nnodes", "--node-rank", "--master", "--rdzv", "--standalone")
"""Of torchrun's flags."""

_BY_REASON = {
    SPEED: """
        --use-mcore-models --use-legacy-models --use-flash-attn --attention-backend
        --transformer-impl --no-gradient-accumulation-fusion --no-masked-softmax-fusion
        --no-bias-swiglu-fusion --no-bias-dropout-fusion --no-rope-fusion --no-persist-layer-norm
        --overlap-grad-reduce --overlap-param-gather --tp-comm-overlap --manual-gc
        --manual-gc-interval --empty-unused-memory-level --no-async-tensor-model-parallel-allreduce
        --cross-entropy-loss-fusion --cross-entropy-fusion-impl --enable-cuda-graph
        --accumulate-allreduce-grads-in-fp32 --grad-reduce-in-bf16 --num-workers
        --no-create-attention-mask-in-dataloader --no-mmap-bin-files --dataloader-type
        --distribute-saved-activations --ddp-bucket-size --ddp-num-buckets
        --gradient-accumulation-fusion --attention-softmax-in-fp32 --distributed-backend
        --use-tp-pp-dp-mapping --deterministic-mode --use-cpu-initialization
        --no-initialization --align-param-gather --overlap-p2p-communication
    """,
    OWN: """
        --load --tensorboard-dir --tensorboard-queue-size --log-throughput
        --log-timers-to-tensorboard --log-validation-ppl-to-tensorboard
        --log-params-norm --log-num-zeros-in-grad --log-memory-to-tensorboard
        --data-cache-path --ckpt-format --use-dist-ckpt --dist-ckpt-format --async-save
        --ckpt-fully-parallel-save --ckpt-fully-parallel-load --ckpt-assume-constant-structure
        --auto-detect-ckpt-format --exit-signal-handler --use-checkpoint-args
        --no-load-optim --no-load-rng --no-save-optim --no-save-rng --log-progress
        --timing-log-level --timing-log-option --log-interval-memory --mock-data
        --initial-loss-scale --loss-scale --loss-scale-window --hysteresis --min-loss-scale
        --calculate-per-token-loss --log-straggler --save-retain-interval
    """,
    MODEL: """
        --num-experts --moe-router-topk --moe-grouped-gemm --moe-aux-loss-coeff --moe-layer-freq
        --moe-router-load-balancing-type --moe-token-dispatcher-type --moe-z-loss-coeff
        --moe-ffn-hidden-size --moe-shared-expert-intermediate-size --expert-model-parallel-size
        --expert-tensor-parallel-size --multi-latent-attention --q-lora-rank --kv-lora-rank
        --qk-head-dim --v-head-dim --mtp-num-layers --mtp-loss-scaling-factor --qk-layernorm
        --add-qkv-bias --apply-layernorm-1p --apply-residual-connection-post-layernorm
        --squared-relu --use-rope-scaling --rope-scaling-factor --rotary-interleaved
        --rotary-seq-len-interpolation-factor --fp8-format --fp8-amax-history-len
        --fp8-amax-compute-algo --fp8-param-gather --fp8-margin --window-size
        --apply-query-key-layer-scaling
    """,
    "evaluation scores held-out documents, training.evaluation_examples of them": "--eval-iters",
    "the batch has one size here": "--rampup-batch-size --step-batch-size-schedule",
    "weight decay is constant here": (
        "--start-weight-decay --end-weight-decay --weight-decay-incr-style"
    ),
    "one rate for all parameters here": "--decoupled-lr --decoupled-min-lr",
    "<end> counts in the loss here": "--eod-mask-loss",
    "other trackers are not a part of this": (
        "--wandb-project --wandb-exp-name --wandb-save-dir --wandb-entity"
    ),
    "ends a run early: training.steps says how long the schedule is": "--exit-interval",
    "--profile.steps writes a trace": (
        "--profile --profile-step-start --profile-step-end --profile-ranks --use-pytorch-profiler"
    ),
    "the rate starts at 0 here": "--lr-warmup-init",
    "a tokenizer's file says it": "--tiktoken-pattern --tokenizer-hf-use-fast",
    "import the checkpoint, then resume from it (docs/interchange.md)": "--finetune",
    "parts of a checkpoint are those of its run": "--pretrained-checkpoint",
}
REASONS = {flag: reason for reason, flags in _BY_REASON.items() for flag in flags.split()}
"""By flag."""


def is_of_launcher(flag: str) -> bool:
    """Whether a flag is torchrun's, which is not a part of the configuration."""
    return flag.startswith(BEGINNINGS)
