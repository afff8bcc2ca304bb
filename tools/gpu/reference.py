"""What a CPU gets in the runs that a GPU is compared with: tools/gpu/reference.json.

    python -m tools.gpu.reference          # writes it anew

A GPT of 4 layers and width 128 trains 20 steps, each on other made-up tokens, two micro-batches a
step, with clipping active.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretrain.config import Config, load_config
from pretrain.console import run_program
from pretrain.files import json_text, write_text

if TYPE_CHECKING:
    from pretrain.data.batch import Batch

FILE = Path(__file__).with_name("reference.json")
STEPS = 20
VOCABULARY = 512
PRECISIONS = ("fp32", "bf16")


def config_of(precision: str, device: str) -> Config:
    """The run that is compared."""
    return load_config(
        None,
        {
            "model": {
                "layers": 4,
                "hidden_size": 128,
                "attention_heads": 4,
                "sequence_length": 64,
                "vocabulary_size": VOCABULARY,
            },
            "training": {"global_batch": 16, "micro_batch": 8, "precision": precision},
            "run": {"device": device},
        },
    )


def batches(config: Config) -> Iterator[Batch]:
    """One batch for each step: tokens that follow each other by a rule, with some noise."""
    import torch

    from pretrain.data.batch import Batch

    shape = (config.training.global_batch, config.model.sequence_length + 1)
    generator = torch.Generator().manual_seed(17)
    while True:
        starts = torch.randint(0, VOCABULARY, (shape[0], 1), generator=generator)
        noise = torch.randint(0, 3, shape, generator=generator).cumsum(1)
        tokens = (starts + 7 * torch.arange(shape[1]) + noise) % VOCABULARY
        mask = torch.ones(shape[0], shape[1] - 1)
        yield Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), mask, mask.numel())


def trained(precision: str, device: str, steps: int = STEPS) -> dict[str, list[float]]:
    """Mean loss in nats and gradient norm of each step, on one process."""
    from pretrain.distributed import topology as topologies
    from tools.bench.subject import ALONE

    config = config_of(precision, device)
    losses, norms = [], []
    with topologies.start(config, ALONE) as topology:
        from pretrain.model.gpt import build
        from pretrain.training.engine import Engine

        engine = Engine(config, topology, build(config, topology, VOCABULARY))
        source = batches(config)
        for _ in range(steps):
            result = engine.train_step(next(source).to(topology.device), 3e-3)
            losses.append(engine.mean_loss(result))
            norms.append(float(result.grad_norm))
    return {"loss": losses, "grad_norm": norms}


def read() -> dict[str, Any]:
    """The file."""
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return found


def main() -> int:
    """Write the file anew. Returns the exit code."""
    argparse.ArgumentParser(prog="tools.gpu.reference", description=__doc__).parse_args()
    import torch

    found = {
        "device": "CPU",
        "torch": torch.__version__,
        **{precision: trained(precision, "cpu") for precision in PRECISIONS},
    }
    write_text(FILE, json_text(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    run_program(main)
