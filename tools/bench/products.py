"""The matrix products of a linear layer by torch's own choice of library and by ours, in turns.

    python -m tools.bench.products [--json] [--rounds 9] [--threads 1] [--shapes 1280x128x512,...]

A shape is tokens x in x out of a layer in fp32 on the CPU. For each of the layer's three products
(forward with bias, gradient of the input, gradient of the weight), of `torch` (which calls MKL) and
`ours` (pretrain.products), `ratio` is torch's seconds over ours: the median over rounds of the
ratio within a round. Products below pretrain.products.SMALLEST are torch's own in both.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pretrain.console import run_program
from pretrain.files import json_text
from tools.bench.rounds import Route, clocked, extremes, median, ratios, take_turns

SHAPES = "1280x128x384,1280x128x512,1280x512x128,1280x128x16,2048x256x1024,2048x256x8192"
"""Layers of the smoke configuration, and of the benchmark of the training step."""
LEAST_SECONDS = 0.02
Work = Callable[[], object]


def shapes(text: str) -> list[tuple[int, int, int]]:
    """`1280x128x512,...` as tokens, in, out."""
    found = [tuple(map(int, part.split("x"))) for part in text.split(",")]
    if any(len(shape) != 3 or min(shape) < 1 for shape in found):
        raise ValueError(text)
    return [(n, k, m) for n, k, m in found]


def works(n: int, k: int, m: int) -> dict[str, dict[str, Work]]:
    """What is compared, by product and side."""
    import torch
    from torch.nn.functional import linear

    from pretrain.products import product

    x_nk, weight_mk, bias_m, grad_nm = (
        torch.randn(*size) for size in ((n, k), (m, k), (m,), (n, m))
    )
    return {
        "forward": {
            "torch": partial(linear, x_nk, weight_mk, bias_m),
            "ours": partial(product, x_nk, weight_mk, bias_m),
        },
        "input gradient": {
            "torch": partial(torch.mm, grad_nm, weight_mk),
            "ours": partial(product, grad_nm, weight_mk.t()),
        },
        "weight gradient": {
            "torch": partial(torch.mm, grad_nm.t(), x_nk),
            "ours": partial(product, grad_nm.t(), x_nk.t()),
        },
    }


def repeated(work: Work, times: int) -> Route:
    """A route of many calls."""

    def all_calls() -> None:
        for _ in range(times):
            work()

    return clocked(all_calls)


def measure(shape: tuple[int, int, int], rounds: int) -> dict[str, Any]:
    """Ratios of the three products of one shape."""
    found: dict[str, Any] = {"shape": list(shape)}
    for name, sides in works(*shape).items():
        for work in sides.values():
            work()  # kernels are made once
        once = clocked(sides["torch"])()
        times = max(1, round(LEAST_SECONDS / once))
        routes = {side: repeated(work, times) for side, work in sides.items()}
        seconds = take_turns(routes, rounds, {})
        each = ratios(seconds, "torch", "ours")
        found[name] = {
            "microseconds": {
                side: median([s / times * 1e6 for s in seconds[side]]) for side in sides
            },
            "ratio": median(each),
            "ratio, rounds": extremes(each),
        }
    return found


def table(found: Sequence[dict[str, Any]]) -> str:
    """The same for people."""
    names = list(works(1, 1, 1))
    lines = [f"{'tokens x in x out':20}" + "".join(f"{name:>18}" for name in names)]
    for one in found:
        shape = "x".join(map(str, one["shape"]))
        lines.append(f"{shape:20}" + "".join(f"{one[name]['ratio']:18.2f}" for name in names))
    return "\n".join([*lines, "seconds of torch over ours: above 1 ours is faster"])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools.bench.products",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each side")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--shapes", type=shapes, default=SHAPES, help="tokens x in x out, with commas"
    )
    options = parser.parse_args(argv)
    import torch

    torch.set_num_threads(max(1, options.threads))
    torch.manual_seed(0)
    found = [measure(shape, max(1, options.rounds)) for shape in options.shapes]
    if options.json:
        print(json_text({"threads": torch.get_num_threads(), "products": found}, indent=2))
    else:
        print(table(found))
    return 0


if __name__ == "__main__":
    run_program(main)
