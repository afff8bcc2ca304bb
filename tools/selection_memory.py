"""What a memory budget buys: layout and rows of a table of token pairs, for a number of ranks.

    python -m tools.selection_memory [--vocabulary 50304] [--tokens 1e9] [--window 10]

prints the table of docs/selector.md. Token frequencies follow Zipf's law (the r-th most frequent
token has a share of 1/r, normalised); the plan is the one that a fit would make
(pretrain.selection.table.sharding).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from pretrain.console import run_program

RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
BUDGETS_GIB = (1, 4, 16)


def zipf_pairs(vocabulary: int, tokens: float, window: int) -> np.ndarray:
    """[vocabulary] int64 pairs of each token in a symmetric window of `window` positions a side."""
    shares = 1.0 / np.arange(1, vocabulary + 1)
    return np.round(2 * window * tokens * shares / shares.sum()).astype(np.int64)


def cell(pairs: np.ndarray, ranks: int, budget_gib: float) -> str:
    """Layout, GiB of the table on each rank, and rows where not all features have one."""
    from pretrain.selection.table.sharding import plan_table

    try:
        plan = plan_table(pairs, len(pairs), int(budget_gib * 2**30), ranks)
    except ValueError:
        return "nothing fits"
    held = plan.bytes / ranks / 2**30
    size = f"{held:.2f} GiB" if held >= 0.01 else f"{held * 1024:.1f} MiB"
    if plan.layout == "top_k":
        covered = 100 * pairs[plan.kept].sum() / pairs.sum()
        return f"top_k {int(plan.kept.sum()):,} ({covered:.0f} % of pairs), {size}"
    return f"all, {size}"


def markdown(vocabulary: int, tokens: float, window: int) -> str:
    """The table, as Markdown."""
    pairs = zipf_pairs(vocabulary, tokens, window)
    heads = [f"{budget} GiB each" for budget in BUDGETS_GIB]
    lines = ["| ranks | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
    for ranks in RANKS:
        cells = [cell(pairs, ranks, budget) for budget in BUDGETS_GIB]
        lines.append(f"| {ranks:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools.selection_memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--vocabulary", type=int, default=50_304)
    parser.add_argument("--tokens", type=float, default=1e9)
    parser.add_argument("--window", type=int, default=10)
    options = parser.parse_args(argv)
    print(markdown(options.vocabulary, options.tokens, options.window))
    return 0


if __name__ == "__main__":
    run_program(main)
