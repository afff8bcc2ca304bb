"""What the seconds of tools.bench.selector say."""

from __future__ import annotations

import os
import platform
import statistics
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pretrain.selection.table.counts import Marginals
from pretrain.selection.table.sharding import Layout
from tools.bench.cooccurrence import windowed_pairs
from tools.bench.rounds import Seconds, extremes, median, ratios, significant
from tools.bench.two_ranks import Job, Part, planned, spread

BASELINES = ("scipy_sparse", "python_dict", "glove_cooccur")
PLANNED_RANKS = (2, 4, 8)
PACKAGES = ("numpy", "numba", "scipy", "scikit-learn", "torch")


def summary(
    job: Job,
    layout: Layout,
    seconds: Seconds,
    parts: dict[Layout, list[Part]],
    candidates: int,
) -> dict[str, Any]:
    """Medians and ranges of what was measured.

    Args:
        job: what was counted.
        layout: the headline's.
        seconds: of all routes.
        parts: what each of two ranks holds, for each layout.
        candidates: scored by a query.
    """
    pairs, ours = windowed_pairs(len(job.tokens), job.window), seconds[f"ours_{layout}"]
    by_layout = {
        name: {
            baseline: ratios(seconds, baseline, f"ours_{name}")
            for baseline in BASELINES
            if baseline in seconds
        }
        for name in parts
    }
    ratio = by_layout[layout] | {
        "count_vectorizer": ratios(seconds, "count_vectorizer", "our_labels")
    }
    speedup = {name: ratios(seconds, f"one_rank_{name}", f"two_ranks_{name}") for name in parts}
    query_ms = [1000 * value for value in seconds["query"]]
    even = {name: spread(two) for name, two in parts.items()}
    return {
        "pairs_per_second": round(pairs / statistics.median(ours)),
        "tokens_per_second": round(len(job.tokens) / statistics.median(ours)),
        "layout": layout,
        "ratio": {name: median(values) for name, values in ratio.items()},
        "ratio_by_layout": {
            name: {baseline: median(values) for baseline, values in found.items()}
            for name, found in by_layout.items()
        },
        "two_rank_speedup": median(speedup[layout]),
        "two_rank_speedup_possible": median(
            ratios(seconds, f"one_rank_{layout}", f"two_apart_{layout}")
        ),
        "two_rank_speedup_by_layout": {name: median(found) for name, found in speedup.items()},
        "bytes_over_share": significant(even[layout][0]),
        "balance": significant(even[layout][1]),
        "query_ms": median(query_ms),
        "candidates_per_second": round(1000 * candidates / statistics.median(query_ms)),
        "seconds": {name: median(values) for name, values in seconds.items()},
        "rounds": {name: len(values) for name, values in seconds.items()},
        "ranges": {
            "pairs_per_second": [round(pairs / max(ours)), round(pairs / min(ours))],
            "ratio": {name: extremes(values) for name, values in ratio.items()},
            "two_rank_speedup": extremes(speedup[layout]),
            "two_rank_speedup_by_layout": {
                name: extremes(found) for name, found in speedup.items()
            },
            "query_ms": extremes(query_ms),
            "seconds": {name: extremes(values) for name, values in seconds.items()},
        },
        "pairs": pairs,
        "tokens": len(job.tokens),
        "vocabulary": job.vocabulary,
        "window": job.window,
    }


def plans(marginals: Marginals, layout: Layout) -> dict[str, Any]:
    """How evenly rows are dealt out over other numbers of ranks, from the plan alone."""
    even = {ranks: planned(marginals, layout, ranks) for ranks in PLANNED_RANKS}
    return {
        "bytes_over_share_by_ranks": {str(k): significant(held) for k, (held, _) in even.items()},
        "balance_by_ranks": {str(k): significant(work) for k, (_, work) in even.items()},
    }


def machine() -> dict[str, Any]:
    """Where it was measured, and with what."""
    names = [platform.machine()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "device": next(iter(names), platform.machine()),
        "cpus": os.cpu_count(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def in_words(result: dict[str, Any]) -> str:
    """The result for people."""
    ranges = result["ranges"]
    lines = [
        f"{result['device']}, {result['cpus']} core(s); {result['tokens']:,} tokens of "
        f"{result['corpus']}, vocabulary {result['vocabulary']:,}, window {result['window']}",
        f"{result['pairs_per_second'] / 1e6:.1f} million pairs/s on one core, layout "
        f"{result['layout']}",
        "",
        f"{'seconds':<28}{'median':>10}{'least':>10}{'most':>10}{'rounds':>8}",
    ]
    for name, seconds in result["seconds"].items():
        low, high = ranges["seconds"][name]
        turns = result["rounds"][name]
        lines.append(f"{name:<28}{seconds:>10.4f}{low:>10.4f}{high:>10.4f}{turns:>8}")
    lines += ["", f"{'ratio':<28}{'median':>10}{'least':>10}{'most':>10}"]
    rows = {
        f"{name} / ours": (value, *ranges["ratio"][name]) for name, value in result["ratio"].items()
    }
    rows["one rank / two"] = (result["two_rank_speedup"], *ranges["two_rank_speedup"])
    for name, (value, low, high) in rows.items():
        lines.append(f"{name:<28}{value:>10.3f}{low:>10.3f}{high:>10.3f}")
    lines += [
        "",
        f"two ranks: {result['bytes_over_share']:.4f} of the even share of bytes, "
        f"{result['balance']:.4f} of the mean pairs; two processes that exchange nothing are "
        f"{result['two_rank_speedup_possible']:.3f} times as fast as one",
        f"query: {result['query_ms']:.2f} ms, {result['candidates_per_second']:,} candidates/s",
    ]
    lines += [f"{name}: {result[name]}" for name in result if name.startswith("selection_share")]
    return "\n".join(lines)
