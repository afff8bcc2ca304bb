"""Which source each sequence of a blend comes from, and which of its sequences it is.

The first n sequences hold, of each source, as many as its weight says, within a sequence or so
(:class:`Blend`). A source counts on by itself: its c-th sequence of the run is the one that the
shuffle of its epoch puts at place c. Nothing is drawn and nothing kept, so any step can be computed
by any rank, and a source goes on where it stood when the others or the weights change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretrain.data.batch import Sampler
from pretrain.data.shuffle import permuted
from pretrain.errors import UserError

SCALE = 1 << 30
"""Weights are multiples of 1 / SCALE."""


class Blend:
    """Deals sequences out to sources by weight, in an order that is known in closed form.

    The heaviest source takes the sequences at which round(w n) steps up, w its share, as a line is
    drawn on a grid (Bresenham, 1965); the next one does so among those that are left; and so on,
    the last takes the rest. Of K sources, none is ever further from its share than
    (1 + 1 + 1/2 + 1/3 + ... + 1/(K-1)) / 2 sequences.

    Args:
        weights: of the sources, above 0; their sum does not matter.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        given = np.asarray(weights, dtype=np.float64)
        self.order = np.argsort(-given, kind="stable")
        """Sources from the heaviest on."""
        falling = given[self.order]
        left = np.cumsum(falling[::-1])[::-1]
        self.parts = [round(SCALE * part) for part in (falling / left).tolist()]
        """Share of what the heavier sources leave, times SCALE."""

    def counts(self, n: np.ndarray | int) -> np.ndarray:
        """[K, ...] sequences of each source among the first `n`."""
        left = np.asarray(n, dtype=np.int64)
        counts = np.empty((len(self.order), *left.shape), dtype=np.int64)
        for source, part in zip(self.order, self.parts, strict=True):
            whole, rest = np.divmod(left, SCALE)
            counts[source] = whole * part + (rest * part + SCALE // 2) // SCALE
            left = left - counts[source]
        return counts

    def at(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """([n] source of each of these sequences, [n] how many that source gave before)."""
        before, after = self.counts(numbers), self.counts(numbers + 1)
        source = np.argmax(after > before, axis=0)
        return source, before[source, np.arange(len(numbers))]


@dataclass(frozen=True)
class Source:
    """What a sampler knows of a source.

    Attributes:
        name: for people.
        fingerprint: of its content; by it a source is known again when a run goes on.
        weight: share of the blend.
        first: number of its first sequence among those of all sources.
        sequences: how many it has.
    """

    name: str
    fingerprint: str
    weight: float
    first: int
    sequences: int


class BlendSampler(Sampler):
    """Draws sequences of a blend, each source without replacement, epoch after epoch.

    Args:
        sources: of the blend.
        global_batch: sequences per step over all ranks.
        seed: of the shuffles.
        saved: what :meth:`state` gave when the run was saved; None at its beginning.
        step: steps done then.

    Raises:
        UserError: a source's content is not what it was.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        global_batch: int,
        seed: int,
        saved: Mapping[str, Any] | None = None,
        step: int = 0,
    ) -> None:
        super().__init__(sum(source.sequences for source in sources), global_batch, seed)
        self.sources = tuple(sources)
        self.blend = Blend([source.weight for source in sources])
        self.since = 0
        self.earlier: dict[str, dict[str, Any]] = {}
        now = {source.fingerprint: source.weight for source in sources}
        if saved is not None:
            self._check_known(saved["sources"])
            changed = saved["weights"] != now
            self.since = step if changed else saved["since"]
            self.earlier = saved["sources" if changed else "before"]
            if changed:
                self.notice = self._changed(saved)
        given = [self.earlier.get(source.fingerprint, {}) for source in sources]
        self.given = np.array([entry.get("sequences", 0) for entry in given])
        """[K] sequences of each source before the blend was as it is."""

    def _changed(self, saved: Mapping[str, Any]) -> str:
        was = ", ".join(
            f"{saved['sources'][fingerprint]['name']}:{weight:g}"
            for fingerprint, weight in saved["weights"].items()
        )
        now = ", ".join(f"{source.name}:{source.weight:g}" for source in self.sources)
        return (
            f"data.blend was {was} and is {now} from step {self.since:,} on; each source goes on "
            "where it stood"
        )

    def _check_known(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        names = {entry["name"]: fingerprint for fingerprint, entry in known.items()}
        for source in self.sources:
            before = names.get(source.name, source.fingerprint)
            if before != source.fingerprint and source.fingerprint not in known:
                raise UserError(
                    f"data.blend {source.name}: the corpus is not the one that the run was trained "
                    f"on (fingerprint {source.fingerprint[:12]}, it was {before[:12]}); put it "
                    "back, or name the new one differently"
                )

    def indices(self, step: int, rank: int, ranks: int) -> np.ndarray:
        """Sequences of data-parallel rank `rank` of `ranks` at `step`, among those of all sources;
        shares of a step are dealt out as :meth:`pretrain.data.batch.Sampler.indices` does."""
        source, place = self._drawn(step, rank, ranks)
        chosen = np.empty(len(place), dtype=np.int64)
        for number, each in enumerate(self.sources):
            epochs, within = np.divmod(place, each.sequences)
            here = source == number
            for epoch in np.unique(epochs[here]).tolist():
                taken = here & (epochs == epoch)
                key = self.seed, each.fingerprint, epoch
                chosen[taken] = each.first + permuted(within[taken], each.sequences, *key)
        return chosen

    def epochs(self, step: int, rank: int, ranks: int) -> np.ndarray:
        """[share] int64 how often each of the sequences of :meth:`indices` was drawn before."""
        source, place = self._drawn(step, rank, ranks)
        return place // np.array([each.sequences for each in self.sources])[source]

    def _drawn(self, step: int, rank: int, ranks: int) -> tuple[np.ndarray, np.ndarray]:
        """([share] source of each sequence of a rank, [share] how many it gave before)."""
        share = self.global_batch // ranks
        first = (step - self.since) * self.global_batch + rank * share
        source, place = self.blend.at(np.arange(first, first + share))
        return source, place + self.given[source]

    def consumed(self, step: int) -> np.ndarray:
        """[K] sequences that each source has given after `step` steps."""
        return self.given + self.blend.counts((step - self.since) * self.global_batch)

    def state(self, step: int) -> dict[str, Any]:
        """What goes into a checkpoint after `step` steps, as JSON values."""
        entries = {
            source.fingerprint: {"name": source.name, "sequences": count}
            for source, count in zip(self.sources, self.consumed(step).tolist(), strict=True)
        }
        return {
            "blend": {
                "since": self.since,
                "weights": {source.fingerprint: source.weight for source in self.sources},
                "before": self.earlier,
                "sources": {**self.earlier, **entries},
            }
        }
