"""The layouts that have to train like one process, and the training that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import torch

from pretrain.config import Config, load_config
from pretrain.distributed import topology
from pretrain.training.schedule import learning_rate

STEPS = 20
VOCABULARY = 32
SPLITS: dict[str, dict[str, Any]] = {
    "TP1": {"tensor": 1},
    "TP2": {"tensor": 2},
    "TP2-SP": {"tensor": 2, "sequence_parallel": True},
}
PIPELINES: dict[str, dict[str, Any]] = {
    "PP1": {"pipeline": 1},
    "PP2": {"pipeline": 2},
    "PP2-interleaved": {"pipeline": 2, "virtual_pipeline": 2},
}
EMBEDDINGS: dict[str, dict[str, Any]] = {
    "tied": {"preset": "gpt2"},
    "untied": {"preset": "llama", "kv_heads": 2},
}


@dataclass(frozen=True)
class Layout:
    """One training: how it is spread over processes, and what of the model it varies."""

    split: str = "TP1"
    pipeline: str = "PP1"
    data: int = 1
    zero: int = 0
    precision: str = "fp32"
    embeddings: str = "tied"
    recompute: str = "none"

    @cached_property
    def parallel(self) -> dict[str, Any]:
        return {**SPLITS[self.split], **PIPELINES[self.pipeline], "zero_stage": self.zero}

    @property
    def ranks(self) -> int:
        return self.parallel["tensor"] * self.parallel["pipeline"] * self.data

    @property
    def alone(self) -> Layout:
        """The same training on one process, without anything that a layout may bring."""
        return Layout(precision=self.precision, embeddings=self.embeddings)

    def __str__(self) -> str:
        parts = [self.split, self.pipeline, f"DP{self.data}", f"ZeRO{self.zero}", self.precision]
        parts.append(self.embeddings)
        return " ".join(parts + (["recompute"] if self.recompute != "none" else []))


def every_layout() -> list[Layout]:
    """All that are valid, in order of their number of processes."""
    layouts = [
        Layout(*values)
        for values in product(
            SPLITS, PIPELINES, (1, 2), range(4), ("fp32", "bf16"), EMBEDDINGS, ("none", "full")
        )
    ]
    valid = [layout for layout in layouts if layout.zero < 3 or layout.pipeline == "PP1"]
    return sorted(valid, key=lambda layout: layout.ranks)


# Each value of each dimension, and the pairs that have been wrong somewhere before.
SUBSET = [
    Layout(recompute="full"),
    Layout(zero=3, precision="bf16"),
    Layout(data=2, embeddings="untied"),
    Layout(data=2, zero=1),
    Layout(data=2, zero=1, precision="bf16", embeddings="untied"),
    Layout(data=2, zero=2, recompute="full"),
    Layout(data=2, zero=3, embeddings="untied", recompute="full"),
    Layout("TP2", embeddings="untied"),
    Layout("TP2-SP", recompute="full"),
    Layout(pipeline="PP2"),
    Layout(pipeline="PP2", zero=2, embeddings="untied"),
    Layout(pipeline="PP2", zero=1, precision="bf16"),
    Layout(pipeline="PP2-interleaved"),
    Layout(pipeline="PP2-interleaved", embeddings="untied", recompute="full"),
    Layout("TP2-SP", data=2, zero=2, embeddings="untied"),
    Layout("TP2", data=2, zero=3),
    Layout("TP2-SP", "PP2", embeddings="untied"),
    Layout(pipeline="PP2-interleaved", data=2, zero=1),
    Layout("TP2-SP", "PP2", data=2, zero=1, precision="bf16"),
]


def make_config(layout: Layout, **model: Any) -> Config:
    """A small model whose gradients are clipped in most steps."""
    return load_config(
        None,
        {
            "model": {
                "layers": 4,
                "hidden_size": 32,
                "attention_heads": 4,
                "sequence_length": 16,
                **EMBEDDINGS[layout.embeddings],
                **model,
            },
            "parallel": layout.parallel,
            "optimizer": {"warmup_steps": 3, "learning_rate": 1e-2, "clip_norm": 0.5},
            "training": {
                "steps": STEPS,
                "global_batch": 16,
                "micro_batch": 4,
                "precision": layout.precision,
                "recompute": layout.recompute,
            },
        },
    )


def train(config: Config) -> list[tuple[float, float]]:
    """(loss, gradient norm) of each step on batches that everybody draws alike."""
    with topology.start(config) as here:
        from pretrain.data.batch import Batch
        from pretrain.model.gpt import build
        from pretrain.training.engine import Engine

        engine = Engine(config, here, build(config, here, VOCABULARY))
        generator = torch.Generator().manual_seed(0)
        mine = slice(here.data.rank * engine.share, (here.data.rank + 1) * engine.share)
        trace = []
        for step in range(config.training.steps):
            tokens = torch.randint(0, VOCABULARY, (16, 17), generator=generator)
            # Unequal numbers of targets per rank: a mean of means would show.
            keep = torch.linspace(0.1, 0.9, 16)[:, None]
            mask = (torch.rand(16, 16, generator=generator) < keep).float()
            batch = Batch(
                tokens[mine, :-1].contiguous(),
                tokens[mine, 1:].contiguous(),
                mask[mine],
                int(mask.sum()),
            )
            result = engine.train_step(batch, learning_rate(step, config))
            trace.append((engine.mean_loss(result), float(result.grad_norm)))
        return trace
