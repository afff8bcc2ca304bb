"""Prepared corpora in a training job: whole documents, packed, with a loss on every token.

With strategy ntp this is plain pretraining; with any other, each sentence stands behind its
selected token, as in task text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pretrain.config import Config
from pretrain.data.batch import Sampler
from pretrain.data.blend import Blend
from pretrain.errors import ConfigError
from pretrain.tasks.text.corpus import BlendedCorpus, PackedBlend
from pretrain.tasks.text.data import Text
from pretrain.tasks.text.task import PackedWork


class CorpusWork(PackedWork):
    """A blend of corpora as a training job sees it.

    Raises:
        UserError: a file is missing, damaged, empty or made with another tokenizer.
        ConfigError: a source is shorter than a sequence, or a split leaves nothing.
    """

    packed: PackedBlend

    def __init__(self, config: Config) -> None:
        self.corpus = corpus = BlendedCorpus(config)
        super().__init__(config, corpus.train, corpus.tokenizer, "")
        length = config.model.sequence_length
        for part, sequences in zip(corpus.parts, self.packed.each, strict=True):
            if not sequences:
                raise ConfigError(
                    f"data.blend {part.source.prefix}: {part.train.tokens:,} training tokens are "
                    f"too few for one sequence of model.sequence_length {length}; lower it, leave "
                    "the source out, or join it to another"
                )
        self.summary = f"{len(corpus.parts)} source(s)\n{self._sources()}"

    def _sources(self) -> str:
        """A line for each source: what it has, and how often the run goes through it."""
        training, parts = self.config.training, self.corpus.parts
        blend = Blend([part.source.weight for part in parts])
        given = blend.counts(training.steps * training.global_batch).tolist()
        return "\n".join(
            f"  {part}, {count / sequences:.2f} epochs in {training.steps:,} steps"
            for part, count, sequences in zip(parts, given, self.packed.each, strict=True)
        )

    def sampler(self, saved: Mapping[str, Any], step: int) -> Sampler:
        """Which sequences each step sees: a function of the seed and the blend."""
        return self.corpus.sampler(self.packed, self.config, saved.get("blend"), step)

    @property
    def original_share(self) -> float:
        """Original tokens for each position that is trained, sources by their weights."""
        weights = [part.source.weight for part in self.corpus.parts]
        shares = [
            weight * part.train.tokens / packed.positions
            for weight, part, packed in zip(
                weights, self.corpus.parts, self.packed.parts, strict=True
            )
        ]
        return sum(shares) / sum(weights)

    def held_out(self) -> dict[str, Text]:
        """Held-out documents of each source."""
        return self.corpus.held_out(self.config.training.evaluation_examples)
