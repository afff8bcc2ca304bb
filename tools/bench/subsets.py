"""Counts of all small sets of columns against numpy's bincount for one set after the other.

    python -m tools.bench.subsets [--json] [--examples 1000000] [--source 6] [--target 4]
        [--values 10] [--k 3] [--rounds 3]

All start from the same digits, [examples, columns] int64 in memory, on one core, and end with the
counts of every set of up to k columns and of every set of k + 1 with a column of the target, from
which R_k is computed (pretrain.selection.estimators.k_local). They take turns in each round, and
seconds are the thread's own, so that other programs count little. `ratio` is a baseline's seconds
over ours: the median over rounds of the ratio within a round. The counts are compared before.

- ours: pretrain.selection.table.subsets, passes over the examples for a few wide sets, all others
  by sums over their cells.
- bincount_as_defined: one np.bincount for each unit and each set A of up to k other columns.
- bincount: one np.bincount for each different set.
- bincount_and_sums: one np.bincount for each set of k + 1, smaller ones by sums: numpy at its best.
- estimator: R_k and its best order, from the digits on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from pretrain.console import run_program
from pretrain.errors import UserError
from pretrain.files import json_text
from tools.bench.rounds import Route, extremes, median, ratios, take_turns

if TYPE_CHECKING:
    from pretrain.selection.table.blocks import Columns

SIZES = {
    "examples": (1_000_000, 1, "rows"),
    "source": (6, 1, "columns of the source"),
    "target": (4, 1, "columns of the target"),
    "values": (10, 2, "values of a column"),
    "k": (3, 1, "columns that are looked at together"),
    "rounds": (3, 1, "turns of each route"),
}
Way = Callable[[np.ndarray, argparse.Namespace], Iterator[tuple["Columns", Any]]]
"""Yields sets of columns, each with its counts."""

BASELINES = ("bincount_as_defined", "bincount", "bincount_and_sums")


def clocked(work: Callable[[], object]) -> Route:
    """A route that is timed in seconds of this thread, so that other programs count little."""

    def route() -> float:
        started = time.thread_time()
        work()
        return time.thread_time() - started

    return route


def digits(options: argparse.Namespace) -> np.ndarray:
    """[examples, source + target] int64: even chance for the source, the target from its sums."""
    rng = np.random.default_rng(0)
    source = rng.integers(0, options.values, (options.examples, options.source))
    weights = rng.integers(0, options.values, (options.source, options.target))
    return np.concatenate([source, source @ weights % options.values], axis=1)


def largest_sets(options: argparse.Namespace) -> list[Columns]:
    """Sets of k + 1 columns, or all columns, with one of the target."""
    columns = options.source + options.target
    width = min(options.k + 1, columns)
    return [set_ for set_ in combinations(range(columns), width) if set_[-1] >= options.source]


def cells_by_bincount(tokens: np.ndarray, set_: Columns, values: int) -> np.ndarray:
    """Counts of a set's combinations of values."""
    keys = tokens[:, set_[0]]
    for column in set_[1:]:
        keys = keys * values + tokens[:, column]
    return np.bincount(keys, minlength=values ** len(set_))


def bincount_as_defined(
    columns: np.ndarray, options: argparse.Namespace
) -> Iterator[tuple[Columns, Any]]:
    """Of each unit with each set of up to k other columns, both together."""
    every = range(options.source + options.target)
    for unit in every[options.source :]:
        others = [column for column in every if column != unit]
        for size in range(1, options.k + 1):
            for set_ in combinations(others, size):
                joint = tuple(sorted((*set_, unit)))
                yield joint, cells_by_bincount(columns, joint, options.values)


def bincount(columns: np.ndarray, options: argparse.Namespace) -> Iterator[tuple[Columns, Any]]:
    """Every set by itself."""
    known = set()
    for largest in largest_sets(options):
        for size in range(1, len(largest) + 1):
            for set_ in combinations(largest, size):
                if set_ not in known and (size < len(largest) or set_ == largest):
                    known.add(set_)
                    yield set_, cells_by_bincount(columns, set_, options.values)


def bincount_and_sums(
    columns: np.ndarray, options: argparse.Namespace
) -> Iterator[tuple[Columns, Any]]:
    """The largest sets by themselves, the others from the first of these that holds them."""
    known = set()
    for largest in largest_sets(options):
        cells = cells_by_bincount(columns, largest, options.values)
        cells = cells.reshape((options.values,) * len(largest))
        for size in range(1, len(largest) + 1):
            for set_ in combinations(largest, size):
                if set_ not in known:
                    known.add(set_)
                    gone = tuple(i for i, column in enumerate(largest) if column not in set_)
                    yield set_, cells.sum(axis=gone).ravel()


def _through(way: Way, columns: np.ndarray, options: argparse.Namespace) -> None:
    for _ in way(columns, options):
        pass


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Check, then time everything in turns.

    Raises:
        UserError: counts differ.
    """
    from pretrain.selection.estimators.k_local import k_local_order
    from pretrain.selection.table.subsets import count_subsets, spectrum_of

    tokens = digits(options)
    source, target = tokens[:, : options.source], tokens[:, options.source :]
    columns = np.asfortranarray(tokens)  # a column of numpy's lies together
    ways = (bincount_as_defined, bincount, bincount_and_sums)

    def ours() -> Any:
        return count_subsets(source, target, options.values, options.k)

    counts = ours()
    for name, way in zip(BASELINES, ways, strict=True):
        for set_, cells in way(columns, options):
            if not all(map(np.array_equal, counts.spectra[set_], spectrum_of(cells))):
                raise UserError(f"{name} counts columns {set_} differently")
    routes = {
        "ours": clocked(ours),
        "estimator": clocked(lambda: k_local_order(source, target, options.values, options.k)),
    }
    for name, way in zip(BASELINES, ways, strict=True):
        routes[name] = clocked(partial(_through, way, columns, options))
    seconds = take_turns(routes, options.rounds, {})
    return {
        "sets": len(counts.spectra),
        "passes": len(counts.blocks.columns),
        "bytes": counts.blocks.bytes_per_rank(1)[0],
        "seconds": {name: median(values) for name, values in seconds.items()},
        "ratio": {name: median(ratios(seconds, name, "ours")) for name in BASELINES},
        "ratio_range": {name: extremes(ratios(seconds, name, "ours")) for name in BASELINES},
    }


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        UserError: a size is too small.
    """
    parser = argparse.ArgumentParser(
        prog="tools.bench.subsets", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    for name, (default, _, text) in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} ({default:,})")
    options = parser.parse_args(argv)
    for name, (_, least, _) in SIZES.items():
        if getattr(options, name) < least:
            raise UserError(f"--{name} is {getattr(options, name)}; use {least:,} or more")
    return options


def in_words(result: dict[str, Any]) -> str:
    """A line for each route."""
    sets, passes = result["sets"], result["passes"]
    lines = [f"{sets} sets, {passes} passes, {result['bytes']:,} bytes of counts"]
    for name, seconds in result["seconds"].items():
        line = f"{name:<20} {seconds:8.3f} s"
        if name in result["ratio"]:
            low, high = result["ratio_range"][name]
            line += f"   {result['ratio'][name]:.1f} times ours ({low:.1f} to {high:.1f})"
        lines.append(line)
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Returns the exit code."""
    try:
        options = arguments(argv)
        result = measure(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json_text(result) if options.json else in_words(result))
    return 0


if __name__ == "__main__":
    run_program(main)
