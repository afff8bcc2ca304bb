"""Problems of reasoning-gym as records: a question, and its answer as an exact string.

    pip install 'mifirst[reasoning]'
    python -m tools.data.reasoning_gym --task base_conversion --out train.jsonl --test test.jsonl \\
        --size 50000 --test-size 1000

    {"source": "Convert the base-3 number 220020 to binary", "target": {"answer": "1010001000"}}

Item i of a data set of reasoning-gym (0.1.25) is made from seed + i, so the same items come from
seeds 42 and 43, moved by one place. Held-out items are therefore made from --seed + --size on.
Questions may come up twice all the same: of the training items, those that were there before or are
held out are dropped and counted, as are items without an answer (0 in another base is written as
nothing). Its own score_answer takes leading zeros and the like for right;
task records compares exact strings.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pretrain.console import run_program
from pretrain.data.jsonl import write_jsonl
from pretrain.errors import UserError
from pretrain.files import json_text
from pretrain.paths import path_argument
from tools.data.debtags import positive

DROPPED = ("held out", "repeated", "repeated held out", "without an answer")


def items(
    task: str, seed: int, size: int, settings: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Questions and answers of the items seed to seed + size - 1.

    Raises:
        UserError: the package is not there, the task or a setting is not known, or an item has no
            text as its answer.
    """
    try:
        import reasoning_gym
    except ImportError as error:
        raise UserError(
            f"the package reasoning-gym is not installed ({error}); "
            "pip install 'mifirst[reasoning]'"
        ) from error
    try:
        found = reasoning_gym.create_dataset(task, seed=seed, size=size, **settings)
    # The package checks settings by assert, and names by ValueError and TypeError.
    except (AssertionError, ValueError, TypeError) as error:
        raise UserError(
            f"--task {task} {dict(settings)}: {error}; "
            "reasoning_gym.factory.DATASETS has the tasks, their configurations the settings"
        ) from error
    for number in range(size):
        item = found[number]
        if not isinstance(item["answer"], str) or not item["question"].strip():
            raise UserError(
                f"--task {task}: the answer of item {seed + number} is "
                f"{item['answer']!r:.60}, expected a text; choose another"
            )
        yield item["question"], item["answer"]


def distinct(
    pairs: Iterable[tuple[str, str]],
    counts: Counter[str],
    repeated: str,
    held_out: Collection[str] = (),
) -> Iterator[tuple[str, str]]:
    """Questions and answers whose question comes first here and is not held out; the others are
    counted.

    Args:
        repeated: what a question that was there before counts as.
    """
    seen: set[str] = set()
    for question, answer in pairs:
        if not answer:
            counts["without an answer"] += 1
        elif question in held_out:
            counts["held out"] += 1
        elif question in seen:
            counts[repeated] += 1
        else:
            seen.add(question)
            yield question, answer


def make(
    out: Path,
    test: Path,
    task: str,
    sizes: tuple[int, int],
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write both files. Returns the counts.

    Args:
        sizes: training and held-out items, before any is dropped.
        seed: of the first training item.
        settings: of the task's configuration.
    """
    size, held_out = sizes
    given = dict(settings or {})
    counts: Counter[str] = Counter()
    tested = dict(distinct(items(task, seed + size, held_out, given), counts, "repeated held out"))
    training = list(distinct(items(task, seed, size, given), counts, "repeated", tested))
    if not training:
        raise UserError(
            f"--task {task}: every training item is held out, too; raise --size, lower --test-size"
        )
    for path, pairs in ((test, tested.items()), (out, training)):
        write_jsonl(path, ({"source": q, "target": {"answer": a}} for q, a in pairs))
    dropped = {name: counts[name] for name in DROPPED}
    return {"out": str(out), "examples": len(training), "test": len(tested), "dropped": dropped}


def setting(text: str) -> tuple[str, Any]:
    """`name=value` of the command line; the value is JSON, or a text."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def main(argv: Sequence[str] | None = None) -> int:
    """Make the files and print the counts. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools.data.reasoning_gym",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--task", required=True, help="name of a data set of reasoning-gym")
    add("--out", type=path_argument, required=True, help="JSONL file with training items")
    add("--test", type=path_argument, required=True, help="JSONL file with held-out items")
    add("--size", type=positive, default=10_000, help="training items (10000)")
    add("--test-size", type=positive, default=1000, help="held-out items (1000)")
    add("--seed", type=int, default=0, help="of the first training item (0)")
    add("--set", type=setting, action="append", default=[], metavar="NAME=VALUE",
        help="a setting of the task's configuration, such as max_base=8")  # fmt: skip
    add("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    try:
        report = make(
            options.out,
            options.test,
            options.task,
            (options.size, options.test_size),
            options.seed,
            dict(options.set),
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json_text(report))
        return 0
    dropped = ", ".join(f"{name} {count:,}" for name, count in report["dropped"].items())
    print(
        f"{report['examples']:,} items in {report['out']}, {report['test']:,} held out; "
        f"dropped: {dropped}"
    )
    return 0


if __name__ == "__main__":
    run_program(main)
