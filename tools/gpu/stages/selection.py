"""What selection costs a step, and how fast the machine's CPU counts."""

from __future__ import annotations

import sysconfig
import time
from pathlib import Path
from typing import Any

from tools.bench.cooccurrence import docstrings, words_of
from tools.bench.selection_share import measure_share
from tools.gpu.report import Options, Report
from tools.gpu.sizes import config_of

WINDOW = 10


def run(options: Options, report: Report) -> None:
    """The share of a step of 124M, and pairs per second."""
    small = options.tiny
    vocabulary = 200 if small else 8192
    text = docstrings(Path(sysconfig.get_path("stdlib")), 200_000 if small else 4_000_000)
    words = words_of(text, vocabulary, 20_000 if small else 1_000_000)
    with report.part("counting") as figures:
        figures.update(counting(words, vocabulary, options))
    with report.part("share") as figures:
        config = config_of("124M", 1024, options.device, small, micro_batch=2 if small else 16)
        turns = {"rounds": 1, "steps": 2} if small else {"rounds": 3, "steps": 4}
        figures.update(measure_share(words, vocabulary, **turns, config=config))


def counting(words: Any, vocabulary: int, options: Options) -> dict[str, Any]:
    """Pairs of words up to WINDOW apart, counted by one thread of the CPU and by the device."""
    import numpy as np
    import torch

    from pretrain.ragged import Documents, Examples, stream_of
    from pretrain.selection.table.counts import count_pairs, window
    from pretrain.selection.table.device_counts import DeviceBlock

    examples = Examples(Documents.from_rows(words[None, :]))
    pairs = 2 * sum(len(words) - distance for distance in range(1, WINDOW + 1))

    def on_the_cpu() -> None:
        count_pairs(stream_of(examples, 1 << 20), vocabulary, vocabulary, window(WINDOW))

    on_the_cpu()  # compiles
    started = time.perf_counter()
    on_the_cpu()
    found = {"pairs": pairs, "cpu_pairs_per_second": pairs / (time.perf_counter() - started)}
    if options.device == "cuda":
        device = torch.device("cuda")
        block = DeviceBlock(np.arange(vocabulary), vocabulary, vocabulary, device)
        # A stream of its own: counting beside a training step would not wait for it.
        with torch.cuda.stream(torch.cuda.Stream()):
            block.add(examples, WINDOW, WINDOW)
            torch.cuda.synchronize()
            started = time.perf_counter()
            block.add(examples, WINDOW, WINDOW)
            torch.cuda.synchronize()
        found["device_pairs_per_second"] = pairs / (time.perf_counter() - started)
    return found
