"""Held-out examples of fixed widths: decoded greedily, restored to natural order, compared."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from pretrain.config import Config, Decoding
from pretrain.inference.any_order import AnyOrderDecoder, Written
from pretrain.inference.decoding import GreedyDecoder
from pretrain.inference.forward import Forward
from pretrain.tasks.base import SAMPLES, Evaluation, Metric, equal_batches
from pretrain.tasks.fixed_width.data import Dataset, Examples
from pretrain.tasks.fixed_width.selection import PositionSelector

DECODINGS: tuple[Decoding, ...] = ("natural", "criterion", "adaptive")
"""Of a model that has every order."""


class PositionEvaluator:
    """Decodes held-out examples, each data-parallel rank its share; answers are restored to natural
    order before anything is scored.

    A model that has every order (strategy any_order) is decoded in each way of :data:`DECODINGS`,
    which gives `exact_match/NAME`; all other figures are those of `selection.decoding`.

    Args:
        config: how many examples, and how many at once.
        forward: runs the model.
        dataset: where examples come from.
    """

    def __init__(self, config: Config, forward: Forward, dataset: Dataset) -> None:
        self.config = config
        self.topology = forward.topology
        self.dataset = dataset
        self.any_order = config.asks_units
        self.decoder = AnyOrderDecoder(forward) if self.any_order else GreedyDecoder(forward)

    def run(self, selector: PositionSelector) -> Evaluation:
        """Decode, restore, score, and add up over the data-parallel ranks.

        Args:
            selector: how targets are predicted now.
        """
        started = time.perf_counter()
        data = self.topology.data
        held_out = self.dataset.test.spread(self.config.training.evaluation_examples)
        mine = held_out.shard(data.rank, data.size)
        share = -(-len(held_out) // data.size)
        written, others = self._write(mine, share, selector.selection.order)
        right = written.natural == mine.target
        scored = {
            "exact_match": right.all(axis=1),
            **{name: right[:, list(units)].all(axis=1) for name, units in self.wholes.items()},
            **{
                f"exact_match/{name}": (other.natural == mine.target).all(axis=1)
                for name, other in others.items()
            },
        }
        sums = [len(mine), *(values.sum() for values in scored.values()), *right.sum(axis=0)]
        totals = torch.tensor(sums, dtype=torch.int64, device=self.topology.device)
        if data.size > 1:
            dist.all_reduce(totals, group=data.group)
        count, *counted = totals.tolist()
        shares = [number / count for number in counted]
        return Evaluation(
            headline="exact_match",
            metrics=tuple(
                Metric(name, value, "higher", "share")
                for name, value in zip(scored, shares, strict=False)
            ),
            unit_accuracy=tuple(shares[len(scored) :]),
            examples=count,
            seconds=time.perf_counter() - started,
            samples=tuple(self._samples(mine, written)),
        )

    @property
    def wholes(self) -> Mapping[str, Sequence[int]]:
        """Units that are scored together, by the name of the metric: here, none."""
        return {}

    def _write(
        self, mine: Examples, share: int, order: Sequence[int]
    ) -> tuple[Written, Mapping[str, Written]]:
        """What the model writes: as it counts, and in each of :data:`DECODINGS` where it has every
        order.

        Args:
            order: of the selection.
        """
        everything = self._each_batch(mine, share)
        units, pad = mine.target.shape[1], self.dataset.tokenizer.pad_id
        if not isinstance(self.decoder, AnyOrderDecoder):
            answers = [self.decoder.generate(source, units, pad) for source in everything]
            tokens = np.concatenate(answers)[: len(mine)]
            return Written(tokens, np.tile(order, (len(mine), 1))), {}
        orders = {"natural": range(units), "criterion": order, "adaptive": None}
        found: dict[str, Written] = {}
        for name in DECODINGS:
            parts = [self.decoder.write(source, units, pad, orders[name]) for source in everything]
            found[name] = Written.joined(parts).head(len(mine))
        return found[self.config.selection.decoding], found

    def _each_batch(self, mine: Examples, longest_share: int) -> list[np.ndarray]:
        """[b, S] sources of all examples; every rank has the same number of equal batches, as
        weights that are sharded over ranks need."""
        source = mine.source
        if len(mine) == 0:  # a rank without examples keeps the others company
            source = np.zeros((1, source.shape[1]), dtype=np.int64)
        batches = equal_batches(longest_share, self.config.training.evaluation_batch)
        return [source[rows % len(source)] for rows in batches]

    def _samples(self, examples: Examples, written: Written) -> list[dict[str, Any]]:
        natural, raw = written.natural, written.tokens
        return [
            {
                **self.sample(examples.source[i], examples.target[i], natural[i], raw[i]),
                "correct": bool((natural[i] == examples.target[i]).all()),
                **({"order": written.orders[i].tolist()} if self.any_order else {}),
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
