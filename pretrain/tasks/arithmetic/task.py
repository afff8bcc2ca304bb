"""Arithmetic in a training job: digits reordered, decoded greedily, restored, compared."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from pretrain.config import Config
from pretrain.data.batch import ExampleSource, Sampler
from pretrain.data.fixed_width import Examples, Task, check_length
from pretrain.data.tokenizers import Tokenizer
from pretrain.distributed.topology import Topology
from pretrain.errors import ConfigError, UserError
from pretrain.ragged import Examples as Counted
from pretrain.selection import selector
from pretrain.selection.schedule import Fitter, SelectionSchedule, origin
from pretrain.selection.selector import Selection
from pretrain.selection.table.collectives import world
from pretrain.selection.table.counts import Progress
from pretrain.selection.table.positions import PositionCounts
from pretrain.selection.table.store import Content
from pretrain.tasks.arithmetic.data import Arithmetic
from pretrain.tasks.base import SAMPLES, Evaluation, FixedExamples, equal_batches


class PositionFitter:
    """Orders the positions of a target.

    Args:
        config: `selection` says how.
        task: where examples come from.
    """

    def __init__(self, config: Config, task: Task) -> None:
        self.config = config
        self.task = task

    @property
    def made_from(self) -> dict[str, Any]:
        """What a table depends on."""
        task, estimator = self.task, self.config.selection.estimator
        return origin(self.config, task.train.checksum, task.tokenizer, estimator=estimator)

    @property
    def tokens(self) -> int:
        """Each token of features and targets is counted twice."""
        train = self.task.train
        return 2 * (train.features.size + train.target.size)

    def fit(
        self, group: dist.ProcessGroup | None, progress: Progress
    ) -> tuple[Selection, PositionCounts | None]:
        """Fit on this reader's share of the training split, together with the others."""
        mine = self.task.train.shard(*world(group))
        return selector.fit(
            self.config.selection,
            mine.features,
            mine.target,
            self.task.values,
            self.task.unit_names,
            group,
            progress,
        )

    def select(self, table: Content) -> Selection:
        """The order that a table implies."""
        if not isinstance(table, PositionCounts):
            raise UserError("the table holds no positions, which data.task arithmetic asks for")
        return selector.select(self.config.selection, table, self.task.unit_names)

    def stream(self, table: Content, indices: np.ndarray) -> Iterable[Counted]:
        """Training examples of these indices as rows and columns of the table."""
        assert isinstance(table, PositionCounts)
        train = self.task.train
        chunk = self.config.selection.chunk_tokens
        return table.stream(train.features[indices], train.target[indices], chunk)()


class ArithmeticWork(FixedExamples):
    """Arithmetic as a training job sees it.

    Raises:
        ConfigError: an example does not fit the model, or `selection.fixed` not the task.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.task = task = Arithmetic(config.data)
        check_length(task, config.model.sequence_length)
        fixed, units = config.selection.fixed, len(task.unit_names)
        if config.selection.strategy == "fixed" and fixed is not None and len(fixed) != units:
            raise ConfigError(
                f"selection.fixed {list(fixed)} orders {len(fixed)} units, but the task has "
                f"{units} ({', '.join(task.unit_names)})"
            )
        self.tokenizer: Tokenizer = task.tokenizer
        self.examples = len(task.train)
        self.summary = f"{len(task.train):,} training examples, {len(task.test):,} held out"
        self.fitter: Fitter = PositionFitter(config, task)
        self.facts: dict[str, Any] = {}

    @property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of both sides."""
        return {"training": self.task.train.checksum, "held_out": self.task.test.checksum}

    def source(
        self, schedule: SelectionSchedule, sampler: Sampler, topology: Topology
    ) -> ExampleSource:
        """Batches of this rank."""
        return ExampleSource(
            self.task,
            sampler,
            schedule,
            topology.reader_rank,
            topology.data.size,
            self.config.model.sequence_length,
        )

    def evaluator(
        self, topology: Topology, module: Any, schedule: SelectionSchedule
    ) -> PositionEvaluator:
        """Scores the model chunks in `module`."""
        return PositionEvaluator(self.config, topology, module, self.task)


class PositionEvaluator:
    """Decodes held-out examples, each data-parallel rank its share; answers are restored to natural
    order before anything is scored."""

    def __init__(
        self,
        config: Config,
        topology: Topology,
        module: Any,
        task: Task,
    ) -> None:
        self.config = config
        self.topology = topology
        self.task = task
        self.module = module
        from pretrain.inference.decoding import GreedyDecoder  # loads Megatron-Core

        self.decoder = GreedyDecoder(config, topology, list(module))

    def run(self, selection: Selection) -> Evaluation:
        """Decode, restore, score, and add up over the data-parallel ranks.

        Args:
            selection: how targets are predicted now.
        """
        started = time.perf_counter()
        self.module.eval()
        data = self.topology.data
        held_out = self.task.test.head(self.config.training.evaluation_examples)
        mine = held_out.shard(data.rank, data.size)
        predicted = self._predict(mine, -(-len(held_out) // data.size))
        natural = selection.transform.restore(predicted)
        right = natural == mine.target
        sums = np.concatenate([[len(mine), right.all(axis=1).sum()], right.sum(axis=0)])
        totals = torch.tensor(sums, dtype=torch.int64, device=self.topology.device)
        if data.size > 1:
            dist.all_reduce(totals, group=data.group)
        count, exact, *units = totals.tolist()
        return Evaluation(
            headline="exact_match",
            higher_is_better=True,
            metrics={"exact_match": exact / count},
            unit_accuracy=tuple(unit / count for unit in units),
            examples=count,
            seconds=time.perf_counter() - started,
            samples=tuple(self._samples(mine, predicted, natural)),
        )

    def _predict(self, mine: Examples, longest_share: int) -> np.ndarray:
        """[n, units] predictions; every rank runs the same number of equal batches, as weights
        that are sharded over ranks need."""
        source = mine.source
        if len(mine) == 0:  # a rank without examples keeps the others company
            source = np.zeros((1, source.shape[1]), dtype=np.int64)
        units, pad = mine.target.shape[1], self.task.tokenizer.pad_id
        parts = [
            self.decoder.generate(source[rows % len(source)], units, pad)
            for rows in equal_batches(longest_share, self.config.training.evaluation_batch)
        ]
        return np.concatenate(parts)[: len(mine)]

    def _samples(
        self, examples: Examples, predicted: np.ndarray, natural: np.ndarray
    ) -> list[dict[str, Any]]:
        decode = self.task.tokenizer.decode
        return [
            {
                "source": decode(examples.source[i]),
                "target": decode(examples.target[i]),
                "prediction": decode(natural[i]),
                "raw": decode(predicted[i]),
                "correct": bool((natural[i] == examples.target[i]).all()),
            }
            for i in range(min(SAMPLES, len(examples)))
        ]
