"""The examples that a step of a run sees, as the model is given them.

    python -m tools.show_batch runs/NAME --step 1234 [--examples 8] [--rank R --ranks N] [--json]

A batch is a function of configuration, data and step, so nothing of it was kept: it is made again.
Where data.blend was changed on the way, only steps since then can be. What the loss counts
stands between the marks >> and <<.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.config import Config, ParallelConfig, read_yaml
from pretrain.console import run_program
from pretrain.data.tokenizers import Tokenizer
from pretrain.distributed.ranks import Ranks
from pretrain.errors import UserError
from pretrain.files import json_text
from pretrain.paths import path_argument
from pretrain.run_files import CHECKPOINTS, CONFIG, SKIPPED
from pretrain.training.checkpoint.manifest import complete, read_manifest

OPENS, CLOSES = ">>", "<<"


def configuration_of(directory: Path) -> Config:
    """The configuration of a run, for one process that trains nothing.

    Raises:
        UserError: there is no run.
    """
    path = directory / CONFIG
    if not path.exists():
        raise UserError(f"{path}: not found; name the folder of a run")
    config = Config(**read_yaml(path))
    config.parallel = ParallelConfig()
    config.training.precision = "fp32"
    config.run.device = "cpu"
    return config


def marked(tokens: np.ndarray, counts: np.ndarray, tokenizer: Tokenizer) -> str:
    """Text of a sequence, padding left out, with marks around what counts.

    Args:
        tokens: [length + 1] the inputs and the last label.
        counts: [length + 1] bool, whether each token counts in the loss.
    """
    kept = np.flatnonzero(counts | (tokens != tokenizer.pad_id))
    kept = np.arange(kept[-1] + 1 if len(kept) else 0)
    tokens, counts = tokens[kept], counts[kept]
    if counts[1:].all():
        return tokenizer.decode(tokens, specials=True)
    changes = np.flatnonzero(np.diff(counts)) + 1
    parts = []
    for piece, counted in zip(np.split(tokens, changes), np.split(counts, changes), strict=True):
        text = tokenizer.decode(piece, specials=True)
        parts.append(f"{OPENS}{text}{CLOSES}" if counted[0] else text)
    return "".join(parts)


def show(directory: Path, step: int, rank: int, ranks: int, examples: int) -> dict[str, Any]:
    """What `step` of the run shows to data-parallel rank `rank` of `ranks`.

    Raises:
        UserError: there is no such run, step or rank.
    """
    from pretrain.data.skipped import passing, read_passed
    from pretrain.distributed import topology as topologies
    from pretrain.selection.schedule import SelectionSchedule

    config = configuration_of(directory)
    training = config.training
    if not 0 <= step < training.steps:
        raise UserError(f"--step {step}: the run has steps 0 to {training.steps - 1}")
    if training.global_batch % ranks or not 0 <= rank < ranks:
        raise UserError(
            f"--rank {rank} --ranks {ranks}: ranks are numbered from 0 and share "
            f"training.global_batch {training.global_batch} equally; choose a divisor"
        )
    task = config.data.build(config)
    passed = read_passed(directory / SKIPPED)
    newest = next(complete(directory / CHECKPOINTS), None)
    manifest = read_manifest(newest) if newest else None
    state, start = (manifest.state, manifest.step) if manifest else ({}, 0)
    sampler = passing(task.sampler(state, passed.batch_of(start)), passed)
    if passed.batch_of(step) < sampler.since:
        raise UserError(
            f"--step {step}: data.blend was another one up to batch {sampler.since:,}, and only "
            "the present one is known; name a later step"
        )
    with topologies.start(config, Ranks("none", 0, 1, 0, 1)) as topology:
        schedule = SelectionSchedule(config, topology, task.fitter, sampler)
        every = config.selection.refresh_every
        for refreshed in range(every, step + 1, every) if every else ():
            schedule(refreshed)
        selector = schedule.at(step)
        batches = task.batches(schedule, sampler, topology)
        tokens, labels, mask, *_ = batches.read(step, selector)
        share = training.global_batch // ranks
        mine = range(rank * share, (rank + 1) * share)
        indices = sampler.indices(step, rank, ranks)
        return {
            "step": step,
            "batch": passed.batch_of(step),
            "rank": rank,
            "ranks": ranks,
            "selection": selector.selection.fingerprint,
            "target_tokens": int(mask[mine].sum()),
            "shown": [
                {
                    "row": row - mine.start,
                    "example": int(indices[row - mine.start]),
                    "text": marked(
                        np.append(tokens[row], labels[row, -1]),
                        np.append(False, mask[row] > 0),
                        task.tokenizer,
                    ),
                }
                for row in mine[:examples]
            ],
        }


def as_text(found: dict[str, Any]) -> str:
    """What the tool prints."""
    passed = found["batch"] - found["step"]
    lines = [
        f"step {found['step']:,}, rank {found['rank']} of {found['ranks']}"
        + (f" (batch {found['batch']:,}: {passed:,} were passed over)" if passed else "")
        + f"; {found['target_tokens']:,} target tokens; selection {found['selection']}"
    ]
    for shown in found["shown"]:
        text = textwrap.wrap(
            shown["text"], 88, initial_indent="    ", subsequent_indent="    ",
            replace_whitespace=True,
        )  # fmt: skip
        lines += [f"row {shown['row']}, example {shown['example']:,}", *text]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the batch again and print it. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools.show_batch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=path_argument, help="folder of the run")
    parser.add_argument(
        "--step", type=int, required=True, help="counted from 0, as in bad_steps.jsonl"
    )
    parser.add_argument("--examples", type=int, default=8, help="how many are shown")
    parser.add_argument("--rank", type=int, default=0, help="data-parallel rank")
    parser.add_argument("--ranks", type=int, default=1, help="data-parallel ranks of the run")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    try:
        found = show(options.run, options.step, options.rank, options.ranks, options.examples)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json_text(found) if options.json else as_text(found))
    return 0


if __name__ == "__main__":
    run_program(main)
