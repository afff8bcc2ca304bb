"""Path-star graphs as records: which way to a goal, where predicting the next node fails.

    python -m tools.data.path_star --out star.jsonl --paths 3 --length 4 --nodes 50 --examples 50000

Bachmann and Nagarajan, The pitfalls of next-token prediction (2024, arXiv 2403.06963, section 4): a
star of `paths` arms of `length` nodes each, the centre among them. The source has the edges in
random order, then start (the centre) and goal (the end of one arm); the target is the path from
start to goal. Written from its end every node follows from the edges; from the start, the first
step has to be guessed unless the whole arm is looked up before.

    {"source": {"from1": "n07", "to1": "n31", ..., "start": "n12", "goal": "n40"},
     "target": {"step1": "n12", ..., "step4": "n40"}}

Examples are distinct. With --test, that file gets examples of its own, none of which is in --out.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pretrain.console import run_program
from pretrain.errors import UserError
from pretrain.files import json_text
from tools.data.debtags import positive
from tools.data.sides import add_files, in_words, write_sides


def star(paths: int, length: int, nodes: int, random: np.random.Generator) -> dict[str, Any]:
    """One graph, with the path to the end of an arm.

    Args:
        paths: arms.
        length: nodes of a path, the centre and the goal among them; 2 or more.
        nodes: names to draw from without repetition.
    """
    width = len(str(nodes - 1))
    drawn = random.choice(nodes, 1 + paths * (length - 1), replace=False)
    names = [f"n{node:0{width}d}" for node in drawn]
    start, arms = names[0], [names[1 + arm :: paths] for arm in range(paths)]
    edges = [edge for arm in arms for edge in zip([start, *arm], arm, strict=False)]
    source: dict[str, str] = {}
    for place, number in enumerate(random.permutation(len(edges)), start=1):
        source[f"from{place}"], source[f"to{place}"] = edges[number]
    path = [start, *arms[random.integers(paths)]]
    source |= {"start": start, "goal": path[-1]}
    target = {f"step{place}": node for place, node in enumerate(path, start=1)}
    return {"source": source, "target": target}


def distinct(
    paths: int, length: int, nodes: int, count: int, seed: int
) -> Iterator[dict[str, Any]]:
    """`count` graphs, no two of which have the same edges in the same order and the same goal.

    Raises:
        UserError: there are not nearly as many.
    """
    needed = 1 + paths * (length - 1)
    if length < 2 or nodes < needed:
        raise UserError(
            f"--paths {paths} --length {length} needs at least 2 nodes on a path and --nodes "
            f"{max(needed, 2)}, found {nodes}; raise --nodes"
        )
    possible = math.perm(nodes, needed) * math.factorial(needed - 1)
    if 2 * count > possible:
        raise UserError(
            f"{count:,} examples of {possible:,} possible graphs are too many to draw; lower "
            "--examples, or raise --nodes"
        )
    random = np.random.default_rng(seed)
    seen: set[tuple[str, ...]] = set()
    while len(seen) < count:
        record = star(paths, length, nodes, random)
        key = tuple(record["source"].values())
        if key not in seen:
            seen.add(key)
            yield record


def main(argv: Sequence[str] | None = None) -> int:
    """Make the files and print the counts. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools.data.path_star",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add_files(parser)
    add("--paths", type=positive, default=3, help="arms of the star (3)")
    add("--length", type=positive, default=4, help="nodes of a path, both ends among them (4)")
    add("--nodes", type=positive, default=50, help="names to draw from (50)")
    add("--examples", type=positive, default=50_000, help="of --out (50000)")
    add("--test-examples", type=positive, default=1000, help="of --test (1000)")
    add("--seed", type=int, default=0, help="of what is drawn (0)")
    add("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    try:
        shape = options.paths, options.length, options.nodes
        report = write_sides(
            lambda count: distinct(*shape, count, options.seed),
            options.out,
            options.test,
            (options.examples, options.test_examples),
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json_text(report) if options.json else in_words(report))
    return 0


if __name__ == "__main__":
    run_program(main)
