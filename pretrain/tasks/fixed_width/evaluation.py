"""Held-out examples of fixed widths: decoded greedily, restored to natural order, compared."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from pretrain.config import Config
from pretrain.inference.decoding import GreedyDecoder
from pretrain.inference.forward import Forward
from pretrain.tasks.base import SAMPLES, Evaluation, Metric, equal_batches
from pretrain.tasks.fixed_width.data import Dataset, Examples
from pretrain.tasks.fixed_width.selection import PositionSelector


class PositionEvaluator:
    """Decodes held-out examples, each data-parallel rank its share; answers are restored to natural
    order before anything is scored.

    Args:
        config: how many examples, and how many at once.
        forward: runs the model.
        dataset: where examples come from.
    """

    def __init__(self, config: Config, forward: Forward, dataset: Dataset) -> None:
        self.config = config
        self.topology = forward.topology
        self.dataset = dataset
        self.decoder = GreedyDecoder(forward)

    def run(self, selector: PositionSelector) -> Evaluation:
        """Decode, restore, score, and add up over the data-parallel ranks.

        Args:
            selector: how targets are predicted now.
        """
        started = time.perf_counter()
        data = self.topology.data
        held_out = self.dataset.test.spread(self.config.training.evaluation_examples)
        mine = held_out.shard(data.rank, data.size)
        predicted = self._predict(mine, -(-len(held_out) // data.size))
        natural = selector.transform.restore(predicted)
        right = natural == mine.target
        wholes = self.wholes
        parts = [right[:, list(units)].all(axis=1).sum() for units in wholes.values()]
        sums = np.concatenate([[len(mine), right.all(axis=1).sum()], parts, right.sum(axis=0)])
        totals = torch.tensor(sums, dtype=torch.int64, device=self.topology.device)
        if data.size > 1:
            dist.all_reduce(totals, group=data.group)
        count, exact, *others = totals.tolist()
        scored, units = others[: len(wholes)], others[len(wholes) :]
        return Evaluation(
            headline="exact_match",
            metrics=(
                Metric("exact_match", exact / count, "higher", "share"),
                *(
                    Metric(name, right / count, "higher", "share")
                    for name, right in zip(wholes, scored, strict=True)
                ),
            ),
            unit_accuracy=tuple(unit / count for unit in units),
            examples=count,
            seconds=time.perf_counter() - started,
            samples=tuple(self._samples(mine, predicted, natural)),
        )

    @property
    def wholes(self) -> Mapping[str, Sequence[int]]:
        """Units that are scored together, by the name of the metric: here, none."""
        return {}

    def _predict(self, mine: Examples, longest_share: int) -> np.ndarray:
        """[n, units] predictions; every rank runs the same number of equal batches, as weights
        that are sharded over ranks need."""
        source = mine.source
        if len(mine) == 0:  # a rank without examples keeps the others company
            source = np.zeros((1, source.shape[1]), dtype=np.int64)
        units, pad = mine.target.shape[1], self.dataset.tokenizer.pad_id
        parts = [
            self.decoder.generate(source[rows % len(source)], units, pad)
            for rows in equal_batches(longest_share, self.config.training.evaluation_batch)
        ]
        return np.concatenate(parts)[: len(mine)]

    def _samples(
        self, examples: Examples, predicted: np.ndarray, natural: np.ndarray
    ) -> list[dict[str, Any]]:
        return [
            {
                **self.sample(examples.source[i], examples.target[i], natural[i], predicted[i]),
                "correct": bool((natural[i] == examples.target[i]).all()),
            }
            for i in range(min(SAMPLES, len(examples)))
        ]

    def sample(
        self, source: np.ndarray, target: np.ndarray, natural: np.ndarray, raw: np.ndarray
    ) -> dict[str, Any]:
        """What is shown of an example, as JSON values.

        Args:
            source: [S] its tokens.
            target, natural: [U] those that are right and those that were predicted, in natural
                order.
            raw: [U] as predicted.
        """
        decode = self.dataset.tokenizer.decode
        return {
            "source": decode(source),
            "target": decode(target),
            "prediction": decode(natural),
            "raw": decode(raw),
        }
