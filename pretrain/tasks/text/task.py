"""Text as a training job sees it: packed sequences, with a loss on every token, and a selected
token in front of each sentence, which is scored jointly with it.

With strategy ntp nothing is inserted, and this is plain pretraining.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pretrain.config import FITTED_STRATEGIES, Config
from pretrain.data.batch import Sampler
from pretrain.data.blend import Blend
from pretrain.data.tokenizers import Tokenizer
from pretrain.distributed.topology import Topology
from pretrain.errors import ConfigError
from pretrain.objectives.base import objective_of
from pretrain.selection.fitter import CountingFitter
from pretrain.selection.schedule import SelectionSchedule
from pretrain.tasks.base import Evaluator, Task
from pretrain.tasks.text.batches import PackedBatches
from pretrain.tasks.text.config import TextData
from pretrain.tasks.text.corpus import BlendedCorpus, PackedBlend
from pretrain.tasks.text.data import END, Packed, Sentences, Text
from pretrain.tasks.text.selection import Chooser, SentenceRule, transform_of
from pretrain.tasks.text.text_file import TextFile
from pretrain.tasks.text.token_scores import TokenScores

if TYPE_CHECKING:
    from pretrain.inference.forward import Forward


class PackedTask(Task):
    """Sequences cut from a stream of text, whether it lies in a file of text or is prepared.

    Args:
        config: of the run.
        text: the training text.
        tokenizer: of its tokens.
        summary: how much there is of it, for people.
    """

    def __init__(self, config: Config, text: Sentences, tokenizer: Tokenizer, summary: str) -> None:
        self.config = config
        self.text = text
        self.tokenizer = tokenizer
        self.summary = summary
        self.transform = transform_of(
            config.selection.strategy, tokenizer, config.selection.plan_slot
        )
        length = config.model.sequence_length
        self.packed: Packed = text.packed(self.transform, length)
        self.examples = self.packed.sequences
        self.scores = scores_of(config)
        selection, reach = config.selection, length
        if self.scores is not None:
            selection = selection.model_copy(update={"features": "before"})
            reach = min(length, 2 * self.scores.window - 1)
        rule = SentenceRule(selection, text, tokenizer.size, reach)
        self.fitter = CountingFitter(
            config, rule, tokenizer.fingerprint, always=self.scores is not None
        )

    @property
    def original_share(self) -> float:
        """Original tokens for each position that is trained."""
        return self.text.tokens / self.packed.positions

    @abstractmethod
    def held_out(self) -> dict[str, Text]:
        """Held-out documents to score, by the name of the source that they are of."""

    def batches(
        self, schedule: SelectionSchedule[Chooser], sampler: Sampler, topology: Topology
    ) -> PackedBatches:
        """Batches of this rank."""
        return PackedBatches(
            self.text,
            self.transform,
            self.tokenizer.special(END),
            sampler,
            schedule,
            topology.reader_rank,
            topology.data.size,
            self.config.model.sequence_length,
            self.config.data.packs_documents,
            self.scores,
            self.tokenizer.pad_id,
        )

    def evaluator(self, forward: Forward, schedule: SelectionSchedule[Chooser]) -> Evaluator:
        """Scores the model that `forward` runs."""
        from pretrain.tasks.text.evaluation import TextEvaluator  # loads Megatron-Core

        return TextEvaluator(
            self.config,
            forward,
            self.tokenizer,
            self.transform,
            self.held_out(),
            self.original_share,
            schedule.current,
        )


def scores_of(config: Config) -> TokenScores | None:
    """What makes the fields that the objective takes from counts; None where it takes none.

    Raises:
        ConfigError: the strategy counts other pairs.
    """
    objective = objective_of(config)
    if not objective.needs_table or objective.window is None:
        return None
    if config.selection.strategy in FITTED_STRATEGIES:
        raise ConfigError(
            f"objective.weighting {objective.weighting} counts which tokens stand before which, "
            f"and selection.strategy {config.selection.strategy} has a table of its own; use "
            "selection.strategy ntp, or objective.weighting uniform"
        )
    return TokenScores(tuple(objective.fields), objective.window)


class TextTask(PackedTask):
    """Text as a training job sees it.

    Raises:
        UserError: a file cannot be read or is malformed.
        ConfigError: the text is shorter than a sequence.
    """

    def __init__(self, config: Config) -> None:
        data = TextData.of(config)
        self.file = file = TextFile(data)
        super().__init__(config, file.train, file.tokenizer, str(file))
        if not self.examples:
            raise ConfigError(
                f"data.path {data.path}: {file.train.tokens} training tokens are too few for one "
                f"sequence of model.sequence_length {config.model.sequence_length}; lower it, or "
                "give more text"
            )

    @property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of both sides."""
        return {"training": self.file.train.checksum, "held_out": self.file.test.checksum}

    def held_out(self) -> dict[str, Text]:
        """Held-out documents to score."""
        test = self.file.test.spread(self.config.training.evaluation_examples)
        if not test.tokens:
            raise ConfigError("the held-out documents have no token; set data.test_fraction higher")
        return {"": test}


class CorpusTask(PackedTask):
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

    @property
    def fingerprints(self) -> dict[str, str]:
        """None: sources may come and go, and the sampler knows each again by its content."""
        return {}

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
