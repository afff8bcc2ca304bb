"""What a checkpoint costs the training: written at once against written in a thread beside it.

    python -m tools.bench.saving [--config configs/gpt2_124m.yaml] [--rounds 3] [--json FILE]

One process. Both ways take turns; a round is a save and the steps until it is written. What counts
is the stall: seconds by which the save and these steps take longer than the steps alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pretrain.config import Config, ParallelConfig, load_config
from pretrain.console import run_program
from pretrain.errors import UserError
from pretrain.files import json_text, write_text
from pretrain.paths import path_argument
from pretrain.training.checkpoint.manifest import Manifest, newest_first

WAYS = {"at once": False, "beside": True}
QUIET_STEPS = 3


@dataclass(frozen=True)
class Save:
    """Seconds of one save.

    Attributes:
        call: until training goes on.
        written: until it is complete.
        stall: by which training got later in all.
    """

    call: float
    written: float
    stall: float


def measure(config: Config, rounds: int, folder: Path) -> dict[str, Any]:
    """Saves of both ways in turns, and steps alone before each."""
    from pretrain.distributed import topology as topologies
    from tools.bench.subject import ALONE, TOKENIZER, batch_of

    with topologies.start(config, ALONE) as topology:
        from pretrain.model.gpt import build
        from pretrain.optimizers.base import updates_of
        from pretrain.training.checkpoint.store import CheckpointStore
        from pretrain.training.engine import Engine

        chunks = build(config, topology, config.vocabulary_size(TOKENIZER))
        engine = Engine(config, topology, chunks)
        batch = batch_of(config).to(topology.device)

        def step() -> float:
            started = time.perf_counter()
            engine.mean_loss(engine.train_step(batch, 1e-4))  # waits for the device
            return time.perf_counter() - started

        stores = {
            way: CheckpointStore(
                folder / way.replace(" ", "_"),
                config.checkpoint.model_copy(update={"asynchronous": beside, "keep_last": 1}),
                topology,
                config.run.timeout_seconds,
            )
            for way, beside in WAYS.items()
        }
        step()
        quiet: list[float] = []
        saves: dict[str, list[Save]] = {way: [] for way in WAYS}
        with tqdm(total=rounds * len(WAYS), unit="save", file=sys.stderr) as bar:
            for number in range(rounds):
                for way in list(WAYS)[:: 1 if number % 2 else -1]:
                    alone = [step() for _ in range(QUIET_STEPS)]
                    quiet += alone
                    store = stores[way]
                    manifest = Manifest(
                        engine.steps, 0, updates_of(engine.built), topology.describe(), "",
                        config.model_dump(mode="json"), "",
                    )  # fmt: skip
                    started = time.perf_counter()
                    store.save(engine, manifest, None)
                    call = time.perf_counter() - started
                    steps = 0
                    while store.is_writing:
                        step()
                        steps += 1
                    written = time.perf_counter() - started
                    store.wait()
                    if (problem := store.problem()) is not None:
                        raise UserError(problem.message)
                    stall = max(call, written - steps * statistics.median(alone))
                    saves[way].append(Save(call, written, stall))
                    bar.update()
        newest = next(newest_first(stores["at once"].directory))
        size = sum(path.stat().st_size for path in newest.iterdir())
    return {
        "parameters": sum(parameter.numel() for parameter in chunks.parameters()),
        "bytes": size,
        "step_seconds": statistics.median(quiet),
        "ways": {
            way: {
                name: statistics.median(getattr(save, name) for save in found)
                for name in ("call", "written", "stall")
            }
            for way, found in saves.items()
        },
    }


def table(found: dict[str, Any]) -> str:
    """The same for people."""
    lines = [
        f"{found['parameters']:,} parameters, {found['bytes'] / 2**20:,.0f} MiB; a step takes "
        f"{found['step_seconds']:.2f} s",
        f"{'':10} {'training waits':>15} {'written after':>15} {'stall in all':>15}",
    ]
    for way, seconds in found["ways"].items():
        columns = (f"{seconds[name]:13.2f} s" for name in ("call", "written", "stall"))
        lines.append(f"{way:10} {' '.join(columns)}")
    stalls = {way: seconds["stall"] for way, seconds in found["ways"].items()}
    lines.append(f"stall, at once over beside: {stalls['at once'] / stalls['beside']:.1f}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools.bench.saving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=path_argument, default=Path("configs/gpt2_124m.yaml"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1, help="sequences per step")
    parser.add_argument("--length", type=int, default=128, help="tokens of a sequence")
    parser.add_argument(
        "--out", type=path_argument, help="where to write; a temporary folder if not given"
    )
    parser.add_argument("--json", type=path_argument, help="write the figures to this file")
    options = parser.parse_args(argv)
    try:
        config = load_config(options.config, {})
        config.model.sequence_length = options.length
        config.training.global_batch = options.batch
        config.training.micro_batch = None
        config.parallel = ParallelConfig()
        with tempfile.TemporaryDirectory(dir=options.out) as folder:
            found = measure(config, options.rounds, Path(folder))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(found))
    if options.json:
        write_text(options.json, json_text(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    run_program(main)
