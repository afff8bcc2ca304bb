"""The models that are measured, and the micro-batch that the planner says fits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pretrain.config import Config, load_config
from pretrain.errors import ConfigError
from pretrain.planning import make_plan

VOCABULARY = 50304
SIZES: dict[str, dict[str, int]] = {
    "124M": {"layers": 12, "hidden_size": 768, "attention_heads": 12},
    "350M": {"layers": 24, "hidden_size": 1024, "attention_heads": 16},
    "1.3B": {"layers": 24, "hidden_size": 2048, "attention_heads": 16},
}
SEQUENCES = (1024, 4096)
TINY = {"layers": 1, "hidden_size": 32, "attention_heads": 2, "vocabulary_size": 256}
ACCUMULATED = 2
"""Micro-batches of a step."""
MOST_TOKENS = 1 << 15
"""Of a micro-batch: beyond it nothing gets faster."""
RESERVE = 0.1
"""Share of the device's memory left to CUDA and fragmentation."""


def config_of(
    size: str, sequence: int, device: str, tiny: bool = False, micro_batch: int = 1, **training: Any
) -> Config:
    """A step of a size in bf16, ACCUMULATED micro-batches; with `tiny`, of what stands for it."""
    model = {**SIZES[size], "vocabulary_size": VOCABULARY, "sequence_length": sequence}
    if tiny:
        model = {**TINY, "sequence_length": sequence // 32}
    return load_config(
        None,
        {
            "model": model,
            "training": {
                "precision": "bf16",
                "global_batch": ACCUMULATED * micro_batch,
                "micro_batch": micro_batch,
                **training,
            },
            "run": {"device": device},
        },
    )


def halvings(micro_batch: int) -> Iterator[int]:
    """The micro-batch, half of it, and so on to 1."""
    while micro_batch:
        yield micro_batch
        micro_batch //= 2


def planned_peak(config: Config) -> int:
    """Bytes that the planner expects a GPU to hold at most."""
    return make_plan(config, 1, config.model.vocabulary_size).largest.peak


def fitting(size: str, sequence: int, memory: int, **training: Any) -> int:
    """The largest power of two of sequences that the planner says fits as a micro-batch.

    Raises:
        ConfigError: not even one does.
    """
    for micro_batch in halvings(MOST_TOKENS // sequence):
        config = config_of(size, sequence, "cuda", micro_batch=micro_batch, **training)
        if planned_peak(config) <= (1 - RESERVE) * memory:
            return micro_batch
    raise ConfigError(f"{size} at sequence {sequence} does not fit {memory / 2**30:.1f} GiB")
