"""Held-out texts with sets of labels: labels are written one by one, put back into natural order,
and the sets scored."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from pretrain.config import Config
from pretrain.data.batch import Batch
from pretrain.distributed.topology import Topology
from pretrain.inference.decoding import GreedyDecoder
from pretrain.inference.forward import Forward, summed_nats
from pretrain.ragged import Documents
from pretrain.selection.orders.labels import natural_order
from pretrain.tasks.base import SAMPLES, Evaluation, Metric, equal_batches
from pretrain.tasks.multilabel.data import END, LabelledExamples, Multilabel
from pretrain.tasks.multilabel.scores import MANY, LabelCounts, count_labels
from pretrain.tasks.multilabel.selection import LabelSelector

SAMPLE_TOKENS = 40
"""Tokens of a text that a sample shows."""


class DistinctLabels:
    """Allows labels that are not written yet, and the end.

    Args:
        first: token id of label 0.
        labels: number of labels.
        end_id: token id of the end; after it, only it is allowed.
        vocabulary: rows of the model's embedding.
        counts: [rows] labels that each row has to write, if that is known; the end is allowed after
            them and nothing else.
    """

    def __init__(
        self, first: int, labels: int, end_id: int, vocabulary: int, counts: Tensor | None = None
    ) -> None:
        self.labels = slice(first, first + labels)
        self.end_id = end_id
        self.vocabulary = vocabulary
        self.counts = counts

    def allowed(self, rows: Tensor, written_rn: Tensor) -> Tensor:
        """[r, vocabulary] bool tokens that may come next; see
        :class:`pretrain.inference.decoding.Constraint`."""
        ended = (written_rn == self.end_id).any(dim=1)
        more = ~ended
        end = torch.ones_like(ended)
        if self.counts is not None:
            more &= self.counts[rows] > written_rn.size(1)
            end = ~more
        allowed = torch.zeros(len(rows), self.vocabulary, dtype=torch.bool, device=rows.device)
        allowed[:, self.labels] = more[:, None]
        allowed.scatter_(1, written_rn, False)
        allowed[:, self.end_id] = end
        return allowed


class LabelEvaluator:
    """Writes the labels of held-out texts, each data-parallel rank its share, and scores the sets.

    Labels that were written are not written again. Scores are of the labels that the task has; see
    :class:`pretrain.tasks.multilabel.data.Multilabel`. Metrics:

    - `micro_f1`, `macro_f1`, `subset_accuracy`, `predicted_length` and `actual_length` (labels per
      text): see :mod:`pretrain.tasks.multilabel.scores`.
    - the same with `_3plus`: of the texts that have three labels or more.
    - `micro_f1_at_true_length`, also with `_3plus`: each text gets as many labels as it has, so
      that how many a model writes does not count.
    - `loss`: nats per label or end, in the order of the selection, each after those before it.
    - `label_coverage`: share of the held-out texts' labels that the task has.

    Args:
        config: how many texts, and how many at once.
        forward: runs the model.
        dataset: where examples come from.
        selector: what puts labels into order before the first step.
    """

    def __init__(
        self, config: Config, forward: Forward, dataset: Multilabel, selector: LabelSelector
    ) -> None:
        self.config = config
        self.forward = forward
        self.topology = topology = forward.topology
        self.dataset = dataset
        held_out = dataset.test.spread(config.training.evaluation_examples)
        self.examples = len(held_out)
        self.share = -(-self.examples // topology.data.size)
        self.mine = held_out.shard(topology.data.rank, topology.data.size)
        # Before batches are read: readers cannot score for both at once.
        self.own_orders = None
        if not selector.selection.order:
            self.own_orders = order_together(selector, self.mine, topology)
        self.end_id = dataset.tokenizer.special(END)
        self.decoder = GreedyDecoder(forward)

    def run(self, selector: LabelSelector) -> Evaluation:
        """Write, restore, score, and add up over the data-parallel ranks.

        Args:
            selector: how labels are predicted now; sets need none to be restored.
        """
        started = time.perf_counter()
        mine = self.mine
        raw = self.write(mine.source)
        forced = self.write(mine.source, mine.target.lengths)
        scores = self._scores(natural_order(raw), natural_order(forced), mine.target)
        loss = self._loss(self._ordered(selector))
        return Evaluation(
            headline="micro_f1",
            metrics=(
                *scores,
                Metric("loss", loss, "lower", "nats"),
                Metric("label_coverage", self.dataset.coverage, None, "share"),
            ),
            unit_accuracy=(),
            examples=self.examples,
            seconds=time.perf_counter() - started,
            samples=tuple(self._samples(mine, raw)),
        )

    def write(self, source: Documents, counts: np.ndarray | None = None) -> Documents:
        """Label numbers that the model writes for each text, in its order.

        Args:
            source: this rank's texts, no more than its share.
            counts: [texts] labels to write for each; until the model ends if not given.
        """
        real = len(source)
        if real == 0:  # a rank without texts keeps the others company
            source, counts = Documents.of([[]]), None if counts is None else np.zeros(1, np.int64)
        prompts, lengths = self.dataset.prompts(source)
        written: list[np.ndarray] = []
        for rows in equal_batches(self.share, self.config.training.evaluation_batch):
            chosen = rows % len(source)
            tokens = self.decoder.generate(
                prompts[chosen],
                self.dataset.longest,
                self.dataset.tokenizer.pad_id,
                lengths[chosen],
                self._constraint(None if counts is None else counts[chosen]),
            )
            written += list(tokens)
        return self._numbers(written[:real])

    def _ordered(self, selector: LabelSelector) -> Documents:
        if self.own_orders is not None:
            return self.own_orders
        return selector(self.mine.source, self.mine.target)

    def _loss(self, target: Documents) -> float:
        """Nats per target token over all data-parallel ranks."""
        real, length = len(target), self.config.model.sequence_length
        source = self.mine.source
        if real == 0:
            source = target = Documents.of([[]])
        tokens, labels, mask = self.dataset.sequences(source, target, length)
        sums = torch.zeros(2, dtype=torch.float64)
        for rows in equal_batches(self.share, self.config.training.evaluation_batch):
            chosen = rows % len(source)
            counted = mask[chosen] * (rows < real)[:, None]
            sums[0] += self._nats(tokens[chosen], labels[chosen], counted)
            sums[1] += float(counted.sum())
        sums = self.topology.sum_of_last_stages(sums.to(self.topology.device))
        return float(sums[0] / sums[1])

    def _nats(self, tokens: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> float:
        """Summed loss of sequences [n, s] on the last stage, 0 on others."""
        parts = self.forward.parts
        more = ((0, -len(tokens) % parts), (0, 0))
        inputs, wanted, counted = (
            torch.from_numpy(np.pad(array, more)) for array in (tokens, labels, mask)
        )
        size = len(inputs) // parts
        batch = Batch(inputs, wanted, counted, int(mask.sum())).to(self.topology.device)
        sums = self.forward.run(
            list(batch.micro_batches(size)),
            (size, tokens.shape[1]),
            summed_nats,
            lambda nats, _: nats,
        )
        return float(torch.stack(sums).sum()) if sums else 0.0

    def _constraint(self, counts: np.ndarray | None) -> DistinctLabels:
        dataset, device = self.dataset, self.topology.device
        return DistinctLabels(
            dataset.first_label,
            len(dataset.label_names),
            self.end_id,
            self.forward.vocabulary,
            None if counts is None else torch.from_numpy(counts).to(device),
        )

    def _numbers(self, written: list[np.ndarray]) -> Documents:
        """Label numbers up to the end; a token that is no label becomes -1, which is no label."""
        sets = []
        for tokens in written:
            ends = np.flatnonzero(np.isin(tokens, (self.end_id, self.dataset.tokenizer.pad_id)))
            numbers = tokens[: ends[0] if len(ends) else None] - self.dataset.first_label
            sets.append(np.maximum(numbers, -1))
        return Documents.of(sets)

    def _scores(self, free: Documents, forced: Documents, actual: Documents) -> tuple[Metric, ...]:
        """Metrics over all data-parallel ranks, of this rank's sets."""
        numbers = np.stack(
            [
                count_labels(
                    predicted.take(chosen), actual.take(chosen), len(self.dataset.label_names)
                ).to_numbers()
                for chosen in (np.arange(len(actual)), np.flatnonzero(actual.lengths >= MANY))
                for predicted in (free, forced)
            ]
        )
        totals = torch.from_numpy(numbers).to(self.topology.device)
        if self.topology.data.size > 1:
            dist.all_reduce(totals, group=self.topology.data.group)
        of_all, of_all_forced, of_many, of_many_forced = (
            LabelCounts.from_numbers(row) for row in totals.cpu().numpy()
        )
        many = f"_{MANY}plus"
        return (
            *of_all.metrics(),
            Metric("micro_f1_at_true_length", of_all_forced.micro_f1, "higher", "share"),
            *of_many.metrics(many),
            Metric(f"micro_f1_at_true_length{many}", of_many_forced.micro_f1, "higher", "share"),
        )

    def _samples(self, examples: LabelledExamples, raw: Documents) -> list[dict[str, Any]]:
        count = min(SAMPLES, len(examples))
        return [
            self._sample(examples.take(np.array([i])), raw.between(i, i + 1)) for i in range(count)
        ]

    def _sample(self, example: LabelledExamples, raw: Documents) -> dict[str, Any]:
        text = example.source.tokens
        cut = " ..." if len(text) > SAMPLE_TOKENS else ""
        natural = natural_order(raw)
        return {
            "source": self.dataset.tokenizer.decode(text[:SAMPLE_TOKENS], specials=True) + cut,
            "target": self._names(example.target),
            "prediction": self._names(natural),
            "raw": self._names(raw),
            "correct": natural.tokens.tolist() == example.target.tokens.tolist(),
        }

    def _names(self, labels: Documents) -> str:
        return self.dataset.tokenizer.decode(
            labels.tokens + np.int32(self.dataset.first_label), True
        )


def order_together(
    selector: LabelSelector, examples: LabelledExamples, topology: Topology
) -> Documents:
    """Labels of a data-parallel rank's examples as predicted, the same on every rank of its copy
    of the model: its reader finds the order and tells the others."""
    tokens = torch.from_numpy(examples.target.tokens.copy())
    if topology.readers is not None:
        tokens = torch.from_numpy(selector(examples.source, examples.target).tokens)
    if topology.feed.size > 1:
        group = topology.feed.group
        dist.broadcast(tokens, dist.get_global_rank(group, 0), group=group)
    return Documents(tokens.numpy(), examples.target.offsets)
