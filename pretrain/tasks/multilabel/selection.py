"""Labels in order: all sets alike, or each by what the words of its text tell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pretrain.config import SelectionConfig
from pretrain.ragged import Documents, Examples, stream_of
from pretrain.selection.estimators.information import presence_information
from pretrain.selection.estimators.pointwise import Scorer
from pretrain.selection.fitter import Ranking, pointwise_of
from pretrain.selection.orders.labels import SortLabels, order_labels, sort_by_scores
from pretrain.selection.selector import Selection
from pretrain.selection.table.collectives import world
from pretrain.selection.table.counts import Pairs, Progress, ShardedCounts, count_pairs
from pretrain.selection.table.positions import Content
from pretrain.tasks.multilabel.data import Multilabel

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

PRESENCE: dict[str, Literal["sum", "top"]] = {"presence": "sum", "presence_top": "top"}
"""Estimators that order all sets alike."""


@dataclass(frozen=True)
class LabelSelector:
    """Puts sets of labels into the order in which they are predicted.

    Attributes:
        selection: the order of all labels, or none where each text has its own.
        scorer: of the labels of a text by its words, where each has its own order; None on ranks
            that read no data.
        largest_first: whether the label that scores best comes first.
    """

    selection: Selection
    scorer: Scorer | None = None
    largest_first: bool = True

    def __call__(self, source: Documents, target: Documents) -> Documents:
        """Label numbers of each text as predicted; where each text has its own order, every reader
        calls it alike.

        Args:
            source: texts of this reader.
            target: label numbers of each.

        Raises:
            UserError: another reader died.
        """
        if self.selection.order:
            return SortLabels(np.array(self.selection.order)).apply(target)
        assert self.scorer is not None
        scores = self.scorer(source, target)
        return sort_by_scores(target, scores, self.largest_first)


@dataclass(frozen=True)
class LabelRule:
    """Counts which words of a text go with which of its labels.

    Attributes:
        settings: `selection` of the configuration.
        dataset: where examples come from.
    """

    settings: SelectionConfig
    dataset: Multilabel
    counted = "words by labels"

    @property
    def unit_names(self) -> tuple[str, ...]:
        """Of the labels."""
        return self.dataset.label_names

    @property
    def checksum(self) -> str:
        """Of the training examples."""
        return self.dataset.train.checksum

    @property
    def details(self) -> dict[str, Any]:
        """The estimator: tables of all of them are alike, but are kept apart."""
        return {"estimator": self.settings.estimator}

    @property
    def tokens(self) -> int:
        """Each token of a text and each label is counted twice."""
        train = self.dataset.train
        return 2 * (len(train.source.tokens) + len(train.target.tokens))

    def uncounted(self, group: dist.ProcessGroup | None, progress: Progress) -> Selection:
        """An order that the strategy alone decides."""
        settings, names = self.settings, self.unit_names
        documents = np.bincount(self.dataset.train.target.tokens, minlength=len(names))
        order = order_labels(
            settings.ordered_by, len(names), documents, seed=settings.seed, fixed=settings.fixed
        )
        return Selection(settings.strategy, tuple(order.tolist()), names)

    def count(
        self,
        group: dist.ProcessGroup | None,
        budget: int,
        progress: Progress,
        device: torch.device | None,
    ) -> ShardedCounts:
        """See :class:`pretrain.selection.fitter.Rule`."""
        mine = self.dataset.train.shard(*world(group))
        return count_pairs(
            stream_of(Examples(mine.source, mine.target), self.settings.chunk_tokens),
            self.dataset.tokenizer.text.size,
            len(self.unit_names),
            Pairs(presence=True),
            group,
            budget,
            progress=progress,
            device=device,
        )

    def fits(self, table: Content) -> bool:
        """Whether it says which documents have both a word and a label."""
        return isinstance(table, ShardedCounts) and table.pairs.presence

    def rank(self, table: Content) -> Ranking | None:
        """Labels by the bits that all words tell of each; None where each text has its own order.

        Every reader calls it.
        """
        settings = self.settings
        if settings.estimator not in PRESENCE:
            return None
        assert isinstance(table, ShardedCounts)
        told = presence_information(table, PRESENCE[settings.estimator])
        order = order_labels(settings.ordered_by, len(self.unit_names), bits=told)
        return Ranking(tuple(order.tolist()), tuple(told.tolist()))

    def stream(self, table: Content, indices: np.ndarray) -> Iterable[Examples]:
        """See :class:`pretrain.selection.fitter.Rule`."""
        chosen = self.dataset.train.take(indices)
        return Examples(chosen.source, chosen.target).chunks(self.settings.chunk_tokens)

    def selector(self, selection: Selection, table: Content | None) -> LabelSelector:
        """With a scorer where each text has its own order."""
        if selection.order or not isinstance(table, ShardedCounts):
            return LabelSelector(selection)
        scorer = Scorer(table, pointwise_of(self.settings))
        return LabelSelector(selection, scorer, self.settings.ordered_by == "max_mi")
