"""What selection costs a training step: how long the step waits, with and without prefetch.

A GPT of 4 layers, width 256 and sequence 512 trains on a text in which one token of each sentence,
selected by its PMI with the others, stands in front of it. The same steps run in turns with the
batch made ahead of the step in a thread, with the batch made when it is asked for, and, for
comparison, with batches that are there already (nothing is read or selected).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pretrain.config import Config, load_config
from pretrain.console import run_program
from pretrain.distributed.ranks import Ranks
from pretrain.files import json_text
from pretrain.ragged import Documents, Examples, stream_of
from pretrain.run_files import METRICS
from pretrain.selection.orders.transforms import Insert
from pretrain.selection.selector import Selection
from pretrain.tasks.text.data import Text

if TYPE_CHECKING:
    from pretrain.data.batch import Batch
    from pretrain.tasks.text.batches import PackedBatches

ALONE = Ranks("none", 0, 1, 0, 1)
SENTENCE = 20
"""Tokens of a sentence: token ids come without full stops that could be seen."""
SPECIALS = 3
"""Two marks, and the end of a document."""


def bench_config(vocabulary: int, threads: int) -> Config:
    """The model and batch that are trained."""
    return load_config(
        None,
        {
            "model": {
                "layers": 4,
                "hidden_size": 256,
                "attention_heads": 8,
                "sequence_length": 512,
                "vocabulary_size": -(-(vocabulary + SPECIALS) // 8) * 8,
            },
            "training": {"global_batch": 4},
            "run": {"threads": threads},
        },
    )


def planned_text(tokens: np.ndarray, vocabulary: int, config: Config) -> PackedBatches:
    """The text, its fitted table and the source of batches."""
    from pretrain.data.batch import Sampler
    from pretrain.selection.estimators.pointwise import Pointwise, Scorer
    from pretrain.selection.table.counts import count_pairs, window
    from pretrain.tasks.text.batches import PackedBatches
    from pretrain.tasks.text.selection import Chooser

    whole = tokens[: len(tokens) // SENTENCE * SENTENCE]
    sentences = Documents.from_rows(whole.reshape(-1, SENTENCE))
    size = vocabulary + SPECIALS
    table = count_pairs(stream_of(Examples(sentences), 1 << 20), size, size, window(SENTENCE))
    insert = Insert(vocabulary, vocabulary + 1)
    length, training = config.model.sequence_length, config.training
    text = Text(sentences, np.array([0, len(sentences)]))
    sampler = Sampler(text.packed(insert, length).sequences, training.global_batch, training.seed)
    chooser = Chooser(Selection("max_mi"), Scorer(table, Pointwise()))
    end = vocabulary + 2
    return PackedBatches(text, insert, end, sampler, lambda _: chooser, 0, 1, length)


class _Side:
    """One way of making batches: its feed, and the seconds of its steps and waits."""

    def __init__(self, batches: Iterable[tuple[int, Batch]]) -> None:
        self.batches: Iterator[tuple[int, Batch]] = iter(batches)
        self.steps: list[float] = []
        self.waits: list[float] = []


def measure_share(
    tokens: np.ndarray,
    vocabulary: int,
    rounds: int = 6,
    steps: int = 4,
    threads: int = 1,
    config: Config | None = None,
) -> dict[str, Any]:
    """Shares of a step's wall time, medians over rounds.

    Args:
        tokens: [n] ids of the text, below `vocabulary`.
        rounds: turns of each side; the first of them only warms up.
        steps: steps in a turn.
        threads: CPU threads of the training step; the feed's thread has one more.
        config: another model and batch than :func:`bench_config`, whose vocabulary has room for
            SPECIALS more.
    """
    from pretrain.data.loader import BatchFeed
    from pretrain.distributed import topology as topologies

    config = config or bench_config(vocabulary, threads)
    with topologies.start(config, ALONE) as topology, tempfile.TemporaryDirectory() as folder:
        from pretrain.model.flops import model_cost
        from pretrain.model.gpt import build
        from pretrain.training.callbacks import JsonLines
        from pretrain.training.engine import Engine
        from pretrain.training.loop import Meter

        size = config.vocabulary_size(vocabulary + SPECIALS)
        engine = Engine(config, topology, build(config, topology, size))
        source = planned_text(tokens, vocabulary, config)
        share, length = config.training.global_batch, config.model.sequence_length
        total = range((rounds + 1) * steps)
        ready = list(BatchFeed(source, topology, share, length, range(steps), ahead=0))
        sides = {
            "with_prefetch": _Side(BatchFeed(source, topology, share, length, total)),
            "without_prefetch": _Side(BatchFeed(source, topology, share, length, total, ahead=0)),
            "batches_there": _Side((step, ready[step % steps][1]) for step in total),
        }
        meter = Meter(config, topology, model_cost(config.model, size))
        log = JsonLines(Path(folder))
        done = 0
        for turn in range(rounds + 1):
            for name in list(sides) if turn % 2 else list(reversed(sides)):
                side = sides[name]
                meter.restart()
                for _ in range(steps):
                    _, batch = next(side.batches)
                    waited = batch.selection_seconds if name != "batches_there" else 0.0
                    result = engine.train_step(batch.to(topology.device), 1e-4)
                    engine.mean_loss(result)
                    meter.add(waited)
                    done += 1
                record = meter.record(done, 0.0, 1e-4, 0.0, 0)
                if name == "with_prefetch":
                    log.on_log(record)
                if turn:
                    side.steps.append(record.step_seconds)
                    side.waits.append(record.selection_seconds)
            print(f"training: round {turn} of {rounds}", end="\r", file=sys.stderr, flush=True)
        log.close()
        lines = (Path(folder) / METRICS).read_text().splitlines()
    return _summary(sides, [json.loads(line)["selection_seconds"] for line in lines], threads)


def _summary(sides: dict[str, _Side], logged: list[float], threads: int) -> dict[str, Any]:
    def share(side: _Side) -> float:
        return statistics.median(w / s for w, s in zip(side.waits, side.steps, strict=True))

    made, there = sides["with_prefetch"], sides["batches_there"]
    return {
        "selection_share": round(share(made), 6),
        "selection_share_without_prefetch": round(share(sides["without_prefetch"]), 6),
        "step_seconds": {
            name: round(statistics.median(side.steps), 5) for name, side in sides.items()
        },
        "step_over_batches_there": round(
            statistics.median(a / b for a, b in zip(made.steps, there.steps, strict=True)), 4
        ),
        "selection_seconds_logged": [round(seconds, 7) for seconds in logged[1:]],
        "training_threads": threads,
    }


def main(argv: list[str] | None = None) -> int:
    """Print a line of JSON for each number of threads."""
    parser = argparse.ArgumentParser(prog="tools.bench.selection_share", description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    options = parser.parse_args(argv)
    from tools.bench.cooccurrence import natural_corpus, words_of

    some = words_of(natural_corpus(None), 8192, 1_000_000)
    for count in options.threads:
        print(json_text(measure_share(some, 8192, threads=count)), flush=True)
    return 0


if __name__ == "__main__":
    run_program(main)
