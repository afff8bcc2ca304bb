"""Typed configuration: YAML file, then dotted command-line overrides, then cross-checks.

Every field is documented and bounded where it lives. Rules that join two fields of one section
live in that section; rules that join sections live in :class:`Config`; rules that need to know how
many processes there are live in :meth:`Config.check_layout`.
"""

from __future__ import annotations

import argparse
import difflib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict

from pretrain.errors import ConfigError

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]

Task = Literal["arithmetic", "multilabel", "text", "corpus"]
Strategy = Literal[
    "ntp",
    "reverse",
    "random",
    "frequency",
    "max_mi",
    "min_mi",
    "fixed",
    "learned",
    "first",
    "blank",
]
EstimatorName = Literal[
    "joint", "pairwise", "operand_pair", "v_information", "chain",
    "presence", "presence_top", "pmi", "npmi",
]  # fmt: skip
FITTED_STRATEGIES = ("max_mi", "min_mi")
STRATEGIES_OF: dict[str, tuple[str, ...]] = {
    "arithmetic": ("ntp", "reverse", "random", "max_mi", "min_mi", "fixed", "learned"),
    "multilabel": ("ntp", "reverse", "random", "frequency", "max_mi", "min_mi", "fixed"),
    "text": ("ntp", "random", "max_mi", "min_mi", "first", "blank"),
    "corpus": ("ntp", "random", "max_mi", "min_mi", "first", "blank"),
}
ESTIMATORS_OF: dict[str, tuple[str, ...]] = {
    "arithmetic": ("joint", "pairwise", "operand_pair", "v_information", "chain"),
    "multilabel": ("presence", "presence_top", "pmi", "npmi"),
    "text": ("pmi", "npmi"),
    "corpus": ("pmi", "npmi"),
}
"""The first is the task's default."""
PROBED = ("v_information", "chain")
"""Estimators that train a probe and count no table."""


class Section(BaseModel):
    """A part of the configuration. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, strict=False)


class ModelConfig(Section):
    """The GPT model."""

    preset: Literal["gpt2", "llama"] = "gpt2"
    """Block style. gpt2: LayerNorm, learned positions, GELU, biases, tied embeddings.
    llama: RMSNorm, rotary positions, SwiGLU, no biases, untied embeddings."""
    layers: PositiveInt = 2
    """Transformer layers."""
    hidden_size: PositiveInt = 128
    """Width of the residual stream."""
    attention_heads: PositiveInt = 4
    """Query heads."""
    kv_heads: PositiveInt | None = None
    """Key and value heads (grouped-query attention); as many as attention_heads if not given."""
    ffn_size: PositiveInt | None = None
    """Inner width of the MLP; 4 x hidden_size (gpt2) or 8/3 x hidden_size rounded up to a
    multiple of 64 (llama) if not given."""
    sequence_length: PositiveInt = 16
    """Tokens per sequence; shorter examples are padded to it."""
    vocabulary_size: PositiveInt | None = None
    """Rows of the embedding; at least the tokenizer's size. If not given, the tokenizer's size
    rounded up to a multiple of parallel.tensor x 8."""
    tie_embeddings: bool | None = None
    """Use the input embedding as the output layer; as the preset does if not given."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Probability of dropout on embeddings, attention and residual branches."""
    init_std: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Standard deviation of initial weights; output projections get it divided by
    sqrt(2 x layers). If not given, sqrt(2 / (5 x hidden_size)) (arXiv 1910.05895): 0.023 at
    width 768, where GPT-2's 0.02 comes from, and 0.056 at width 128."""
    rope_base: PositiveInt = 10_000
    """Base period of rotary positions (llama)."""
    gelu: Literal["exact", "tanh"] = "exact"
    """GELU of gpt2: exact, or the approximation by tanh that OpenAI's GPT-2 was trained with."""

    @property
    def query_groups(self) -> int:
        """Key/value heads, with the default resolved."""
        return self.kv_heads or self.attention_heads

    @property
    def ffn_width(self) -> int:
        """Inner width of the MLP, with the default resolved."""
        if self.ffn_size is not None:
            return self.ffn_size
        if self.preset == "llama":
            return -(-8 * self.hidden_size // 3 // 64) * 64
        return 4 * self.hidden_size

    @property
    def tied(self) -> bool:
        """Whether embeddings are tied, with the default resolved."""
        return self.preset == "gpt2" if self.tie_embeddings is None else self.tie_embeddings

    @property
    def initial_std(self) -> float:
        """Standard deviation of initial weights, with the default resolved."""
        return self.init_std or math.sqrt(2.0 / (5.0 * self.hidden_size))

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelConfig:
        if self.hidden_size % self.attention_heads:
            raise ValueError(
                f"model.hidden_size {self.hidden_size} is not divisible by model.attention_heads "
                f"{self.attention_heads}; choose a multiple"
            )
        if self.attention_heads % self.query_groups:
            raise ValueError(
                f"model.attention_heads {self.attention_heads} is not divisible by model.kv_heads "
                f"{self.query_groups}; choose a divisor"
            )
        if self.preset == "llama" and (self.hidden_size // self.attention_heads) % 2:
            raise ValueError(
                "model.hidden_size / model.attention_heads must be even for rotary positions "
                f"(found {self.hidden_size // self.attention_heads})"
            )
        return self


class ParallelConfig(Section):
    """How the model and its training state are spread over processes."""

    tensor: PositiveInt = 1
    """Tensor-parallel size."""
    pipeline: PositiveInt = 1
    """Pipeline-parallel size (1F1B schedule)."""
    virtual_pipeline: PositiveInt = 1
    """Model chunks per pipeline stage (interleaved schedule); 1 means not interleaved."""
    sequence_parallel: bool = False
    """Split activations along the sequence between tensor-parallel regions."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 0
    """DeepSpeed ZeRO stage: 0 nothing, 1 optimizer, 2 and gradients, 3 and weights are sharded
    over the data-parallel ranks."""
    offload: Literal["none", "optimizer", "parameters"] = "none"
    """What ZeRO keeps in the host's memory: the optimizer's state (stages 1 to 3), and the weights
    too (stage 3)."""
    context: PositiveInt = 1
    """Context-parallel size (a sequence split over processes); only 1 for now."""

    @property
    def model_parallel(self) -> int:
        """Processes that hold one copy of the model."""
        return self.tensor * self.pipeline

    @model_validator(mode="after")
    def _combinations(self) -> ParallelConfig:
        if self.zero_stage == 3 and self.pipeline > 1:
            raise ValueError(
                "parallel.zero_stage 3 cannot be combined with parallel.pipeline "
                f"{self.pipeline}: gathering weights stage by stage dead-locks in DeepSpeed; "
                "use parallel.zero_stage 0, 1 or 2, or parallel.pipeline 1"
            )
        if self.context > 1:
            raise ValueError(
                f"parallel.context {self.context}: Megatron-Core's context parallelism lives in "
                "Transformer Engine's attention, and the attention used here is torch's; use "
                "parallel.context 1, and parallel.tensor with parallel.sequence_parallel or "
                "training.recompute for long sequences"
            )
        if self.offload != "none" and self.zero_stage == 0:
            raise ValueError(
                f"parallel.offload {self.offload} needs parallel.zero_stage of at least 1 "
                "(DeepSpeed offloads what ZeRO shards)"
            )
        if self.offload == "parameters" and self.zero_stage < 3:
            raise ValueError(
                f"parallel.offload parameters needs parallel.zero_stage 3 (found "
                f"{self.zero_stage}); use offload optimizer"
            )
        if self.virtual_pipeline > 1 and self.pipeline == 1:
            raise ValueError(
                f"parallel.virtual_pipeline {self.virtual_pipeline} needs parallel.pipeline of at "
                "least 2; set parallel.virtual_pipeline to 1"
            )
        if self.sequence_parallel and self.tensor == 1:
            raise ValueError(
                "parallel.sequence_parallel needs parallel.tensor of at least 2; set it to false"
            )
        return self


class BlendSource(Section):
    """A corpus and its share of the blend; also written PREFIX or PREFIX:WEIGHT."""

    prefix: Path
    """Of the .bin, .idx and .manifest.json that tools.preprocess_data wrote."""
    weight: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0
    """Share of the sequences, relative to the other sources' weights."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        prefix, _, weight = value.rpartition(":")
        return {"prefix": prefix, "weight": weight} if prefix else {"prefix": value}


class DataConfig(Section):
    """What is learned."""

    task: Task = "arithmetic"
    """Kind of examples: arithmetic (made here), multilabel (texts with sets of labels), text (a
    file, tokenized when the run begins), corpus (what tools.preprocess_data wrote)."""
    operation: Literal["addition", "subtraction", "multiplication"] = "multiplication"
    """Arithmetic operation."""
    digits: Annotated[int, Field(ge=1, le=9)] = 2
    """Digits of each operand, zero-padded."""
    digits_second: Annotated[int, Field(ge=1, le=9)] | None = None
    """Digits of the second operand, where it has others than the first."""
    examples: PositiveInt | None = None
    """Operand pairs drawn in all, a*b and b*a counted once; every pair if not given (3 digits at
    the most)."""
    path: Path | None = None
    """Texts (multilabel, text): JSON lines with `text` and, for multilabel, `labels`; or, for text,
    plain text."""
    test_path: Path | None = None
    """Held-out texts; a share of `path` if not given."""
    document_gap: PositiveInt = 1
    """Blank lines that part two documents of a plain text: 1 makes every paragraph a document,
    2 every section."""
    blend: tuple[BlendSource, ...] | None = None
    """Corpora and their weights (corpus): a list of {prefix, weight}, or of PREFIX:WEIGHT."""
    split: str = "98,1,1"
    """Shares of the documents of each source for training, validation and test, which take them in
    this order (corpus)."""
    evaluate_on: Literal["validation", "test"] = "validation"
    """Which held-out documents are scored (corpus)."""
    document_mask: bool = True
    """Keep packed documents apart: attention ends where a document ends, and positions begin anew.
    Otherwise a sequence is read as one text with <end> between documents (corpus)."""
    tokenizer: Path | None = None
    """Tokenizer of texts, as tools.train_tokenizer or Hugging Face wrote it; the words of the
    training texts by frequency if not given (a corpus needs the one that it was prepared with)."""
    vocabulary: PositiveInt = 8192
    """Words that are kept where no tokenizer is given."""
    minimum_documents: PositiveInt = 50
    """Training texts that a label must have (multilabel); rarer ones are left out."""
    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Share that is held out. a*b and b*a are always on the same side, as are equal texts."""
    split_seed: NonNegativeInt = 0
    """Seed of the split, apart from training.seed so that seeds share one test set."""

    @property
    def second_digits(self) -> int:
        """Digits of the second operand, with the default resolved."""
        return self.digits_second or self.digits

    @model_validator(mode="after")
    def _enumerable(self) -> DataConfig:
        if max(self.digits, self.second_digits) > 3 and self.examples is None:
            raise ValueError(
                f"data.digits {self.digits} has 10^{self.digits + self.second_digits} pairs; say "
                "how many to draw with data.examples, for example 1000000"
            )
        return self

    @property
    def split_shares(self) -> tuple[float, float, float]:
        """Shares of training, validation and test, as they were given."""
        training, validation, test = map(float, self.split.split(","))
        return training, validation, test

    @field_validator("split", mode="after")
    @classmethod
    def _three_shares(cls, value: str) -> str:
        if not re.fullmatch(r"\d+(\.\d+)?(,\d+(\.\d+)?){2}", value):
            raise ValueError(
                f"data.split {value!r} is not three numbers with commas between them: shares of "
                "training, validation and test, for example 98,1,1"
            )
        return value

    @model_validator(mode="after")
    def _blended(self) -> DataConfig:
        if self.task != "corpus":
            return self
        if not self.blend:
            raise ValueError(
                "data.task corpus needs data.blend, the corpora to read, for example "
                "[corpora/web:0.7, corpora/books:0.3]"
            )
        if self.tokenizer is None:
            raise ValueError(
                "data.task corpus needs data.tokenizer, the one that the corpora were prepared with"
            )
        names = [str(source.prefix) for source in self.blend]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"data.blend names {twice[0]} twice; name it once, with the sum of the weights"
            )
        shares = dict(zip(("training", "validation", "test"), self.split_shares, strict=True))
        for side in ("training", self.evaluate_on):
            if not shares[side]:
                raise ValueError(
                    f"data.split {self.split} leaves nothing for {side}; the three shares are of "
                    "training, validation and test, for example 98,1,1"
                )
        return self

    @model_validator(mode="after")
    def _of_use(self) -> DataConfig:
        if self.task in ("multilabel", "text") and self.path is None:
            raise ValueError(
                f"data.task {self.task} needs data.path, the file that holds the training texts"
            )
        for name, tasks in _FIELDS_OF.items():
            value = getattr(self, name)
            if self.task not in tasks and value != DataConfig.model_fields[name].default:
                raise ValueError(
                    f"data.{name} {value} is of no use to data.task {self.task}; leave it out"
                )
        return self


_FIELDS_OF = {
    "operation": ("arithmetic",),
    "digits": ("arithmetic",),
    "digits_second": ("arithmetic",),
    "examples": ("arithmetic",),
    "path": ("multilabel", "text"),
    "test_path": ("multilabel", "text"),
    "document_gap": ("text",),
    "blend": ("corpus",),
    "split": ("corpus",),
    "evaluate_on": ("corpus",),
    "document_mask": ("corpus",),
    "tokenizer": ("multilabel", "text", "corpus"),
    "vocabulary": ("multilabel", "text"),
    "minimum_documents": ("multilabel",),
    "test_fraction": ("arithmetic", "multilabel", "text"),
    "split_seed": ("arithmetic", "multilabel", "text"),
}
"""Tasks that a field of `data` is of use to."""


class SelectionConfig(Section):
    """Which target unit is predicted first."""

    strategy: Strategy = "max_mi"
    """Order of the target's units: ntp (natural), reverse, random (one permutation drawn from
    selection.seed), frequency (labels, most frequent first), max_mi and min_mi (by mutual
    information with the source), fixed, learned (the order whose loss falls first). For text, the
    token that is put in front of each sentence: none (ntp), max_mi, min_mi, random (any token of
    the sentence), first (its first), blank (a token without content)."""
    estimator: EstimatorName = "joint"
    """How MI(source; unit) is computed for max_mi and min_mi. Arithmetic: joint, pairwise and
    operand_pair from counts; v_information and chain by a small probe that is trained to predict
    units from the source. Labels: presence (sum over the words of a text) and presence_top (mean
    over those that tell the most), one order for all texts; pmi and npmi, each text its own. Text:
    pmi and npmi. If not given, the first that the task has."""
    features: Literal["before", "sentence"] = "sentence"
    """Which tokens a sentence's tokens are scored by: those of the sentences before it in its
    document, or the other ones of the sentence."""
    minimum_count: PositiveInt = 5
    """Pairs that were seen less often count as 0 (pmi, npmi)."""
    smoothing: Fraction = 0.75
    """Exponent of the distribution of features (pmi, npmi); 1 for none."""
    positive: bool = True
    """Leave negative values out (pmi, npmi)."""
    correction: Literal["none", "miller_madow", "shrinkage"] = "miller_madow"
    """Bias correction of the plug-in estimate; shrinkage is for thin counts, and knows nothing of a
    source that occurs once."""
    tie_bits: Annotated[float, Field(ge=0.0)] = 0.005
    """Units within this many bits of the best are tied; the last in natural order wins."""
    fixed: tuple[NonNegativeInt, ...] | None = None
    """Order for strategy fixed: a permutation of the units, numbered from the most significant."""
    seed: NonNegativeInt = 0
    """Seed of strategy random."""
    chunk_tokens: Annotated[int, Field(ge=1024)] = 1_048_576
    """Tokens that each rank contributes to one exchange while counting."""
    memory_gb: Annotated[float, Field(gt=0.0)] = 4.0
    """GiB that each rank that reads data has for its rows of the table."""
    count_on: Literal["cpu", "gpu"] = "cpu"
    """Where pairs are counted: compiled loops on the CPU, or torch on this rank's GPU."""
    fit_tokens: PositiveInt | None = None
    """Tokens of the training split that are counted, of each source by its weight (corpus); every
    training document once if not given."""
    table: Path | None = None
    """Folder of a fitted table: loaded if it is there and belongs to this run (refused if it does
    not), else written after the fit. All ranks must see it."""
    refresh_every: NonNegativeInt = 0
    """Steps after which the batches seen since are added to the table and units are ordered anew;
    0 keeps the first order."""

    @property
    def memory_bytes(self) -> int:
        """Bytes that each rank has for its rows."""
        return int(self.memory_gb * 2**30)

    @model_validator(mode="after")
    def _table_used(self) -> SelectionConfig:
        fitted = self.strategy in FITTED_STRATEGIES
        for name, given in (("table", self.table), ("refresh_every", self.refresh_every)):
            if not given:
                continue
            if not fitted:
                raise ValueError(
                    f"selection.{name} {given} is of no use to selection.strategy {self.strategy}, "
                    "which fits nothing; leave it out, or use max_mi or min_mi"
                )
            if self.estimator in PROBED:
                raise ValueError(
                    f"selection.{name} {given}: estimator {self.estimator} has no table; leave it "
                    "out, or use joint, pairwise or operand_pair"
                )
            if name == "refresh_every" and self.estimator in ("pmi", "npmi"):
                raise ValueError(
                    f"selection.refresh_every {given}: scores of estimator {self.estimator} stay "
                    "as they were fitted; leave it out"
                )
        return self

    @model_validator(mode="after")
    def _chain_has_one_end(self) -> SelectionConfig:
        if self.estimator == "chain" and self.strategy == "min_mi":
            raise ValueError(
                "selection.estimator chain looks for the best order only; use it with "
                "selection.strategy max_mi"
            )
        return self

    @model_validator(mode="after")
    def _fixed_given(self) -> SelectionConfig:
        if self.strategy == "fixed" and self.fixed is None:
            raise ValueError(
                "selection.strategy fixed needs selection.fixed, for example [3, 2, 1, 0]"
            )
        if self.fixed is not None and sorted(self.fixed) != list(range(len(self.fixed))):
            raise ValueError(
                f"selection.fixed {list(self.fixed)} is not a permutation of 0..n-1; name every "
                "unit once"
            )
        return self


class OptimizerConfig(Section):
    """AdamW and its learning-rate schedule."""

    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-3
    """Peak rate."""
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    """After warm-up: cosine to the minimum; wsd (stay, then fall linearly over decay_steps);
    constant."""
    warmup_steps: NonNegativeInt = 100
    """Steps of linear warm-up from 0."""
    decay_steps: PositiveInt | None = None
    """Steps of the final decay of schedule wsd; a tenth of training.steps if not given."""
    minimum_fraction: Fraction = 0.05
    """Rate at the end, as a fraction of learning_rate."""
    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Decay of the first moment."""
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    """Decay of the second moment."""
    epsilon: Annotated[float, Field(gt=0.0)] = 1e-8
    """Added to the denominator."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.1
    """Decoupled weight decay of matrices; biases and norms have none."""
    clip_norm: Annotated[float, Field(ge=0.0)] = 1.0
    """Largest global gradient norm; 0 switches clipping off."""


class TrainingConfig(Section):
    """Budget and numerics."""

    steps: PositiveInt = 1000
    """Optimizer steps."""
    global_batch: PositiveInt = 128
    """Sequences per step, over all data-parallel ranks."""
    micro_batch: PositiveInt | None = None
    """Sequences per forward pass and rank; the whole share of the rank if not given."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Number format of weights and activations; bf16 and fp16 keep fp32 master weights. fp16 scales
    the loss dynamically and needs a GPU."""
    recompute: Literal["none", "selective", "full"] = "none"
    """Activations that the backward pass computes again instead of keeping them: selective, the
    MLP's, the largest; full, each layer's but its input."""
    compile: bool = False
    """Compile each transformer layer with torch.compile."""
    seed: NonNegativeInt = 0
    """Seed of initial weights, batches and dropout."""
    max_minutes: Annotated[float, Field(gt=0.0)] | None = None
    """Minutes after which the run finishes its step, saves a checkpoint and stops with exit code
    75; no limit if not given."""
    max_bad_steps: PositiveInt = 10
    """Bad steps in a row after which the run ends: their gradients are not finite, or their loss is
    a spike. Such a step updates nothing on any rank."""
    spike_zscore: Annotated[float, Field(gt=0.0)] | None = None
    """Robust z-score, against the last 128 steps, above which a loss is a spike and its step is
    bad; spikes are not looked for if not given. 10 is a mild choice."""
    on_bad_steps: Literal["stop", "roll_back"] = "stop"
    """What too many bad steps in a row do: end the run with an error; or with exit code 75, so that
    the same command goes on from the last checkpoint before them and passes over these batches."""
    evaluate_every: NonNegativeInt = 0
    """Steps between evaluations; 0 evaluates only at the end."""
    evaluation_examples: PositiveInt | None = None
    """Held-out examples that are scored; all of them if not given."""
    evaluation_batch: PositiveInt = 512
    """Examples per forward pass of an evaluation and rank."""


class CheckpointConfig(Section):
    """What is kept of the training, and what a run goes on from."""

    save_every: NonNegativeInt = 0
    """Steps between checkpoints; 0 saves none on the way."""
    save_final: bool = True
    """Save one after the last step."""
    keep_last: NonNegativeInt = 2
    """Newest checkpoints that are kept; 0 keeps all."""
    keep_every: NonNegativeInt = 0
    """Steps of which each multiple is kept besides; 0 for none."""
    asynchronous: bool = True
    """Write in a thread while training goes on, from a copy in host memory."""
    on_error: Literal["warn", "stop"] = "warn"
    """What a save that fails (disk full, folder gone) does to the training."""
    resume: str = "auto"
    """What to go on from: auto (the newest complete checkpoint of the run's folder, if it has any),
    latest (that, and an error if it has none), never, or the folder of a checkpoint."""


class RunConfig(Section):
    """Where a run writes, what it shows and what it runs on."""

    directory: Path = Path("runs/default")
    """Folder of this run."""
    overwrite: bool = False
    """Start over in a folder that already holds a run; what it holds is lost."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is a device, else the CPU."""
    threads: NonNegativeInt = 0
    """CPU threads of each process; 0 shares the cores among the processes of the host unless
    OMP_NUM_THREADS says otherwise."""
    log_every: PositiveInt = 20
    """Steps between lines of metrics.jsonl."""
    tensorboard: bool = True
    """Write TensorBoard events."""
    progress: bool = True
    """Show a progress bar on rank 0."""
    timeout_seconds: PositiveInt = 600
    """Longest time that a process may stand still, for example wait for another, before the job
    ends with exit code 74 and names it."""
    start_timeout_seconds: PositiveInt = 1800
    """The same up to the first step, and while fitting, evaluating or saving."""
    silence_seconds: PositiveInt = 60
    """Longest time that nothing is heard of a process before the job ends."""
    straggler_factor: Annotated[float, Field(gt=1.0)] = 1.5
    """A process whose forward pass takes so many times the others' is named as slow."""


class ProfileConfig(Section):
    """Traces of single steps."""

    steps: Annotated[str, Field(pattern=r"^\d+:\d+$")] | None = None
    """Steps that are traced, as FIRST:END, counted from 0 and without the last: 10:12 are steps 10
    and 11. Written into the run's folder, to be opened in Perfetto."""
    ranks: tuple[NonNegativeInt, ...] = (0,)
    """Ranks that write a trace, each its own."""

    @property
    def window(self) -> tuple[int, int] | None:
        """First step and the one after the last; None where nothing is traced."""
        if self.steps is None:
            return None
        first, _, end = self.steps.partition(":")
        return int(first), int(end)

    @model_validator(mode="before")
    @classmethod
    def _no_number(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("steps"), int):
            raise ValueError(
                f"profile.steps {values['steps']} is a number, expected FIRST:END; YAML reads "
                '10:12 as minutes and seconds unless it stands in quotes: "10:12"'
            )
        return values

    @model_validator(mode="after")
    def _not_empty(self) -> ProfileConfig:
        if self.window is not None and self.window[0] >= self.window[1]:
            first = self.window[0]
            raise ValueError(
                f"profile.steps {self.steps} holds no step; the end is not part of it: "
                f"{first}:{first + 1} is step {first}"
            )
        return self


class Config(BaseSettings):
    """Everything a run is made of."""

    model_config = SettingsConfigDict(
        extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    model: ModelConfig = ModelConfig()
    parallel: ParallelConfig = ParallelConfig()
    data: DataConfig = DataConfig()
    selection: SelectionConfig = SelectionConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    run: RunConfig = RunConfig()
    profile: ProfileConfig = ProfileConfig()

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls, settings_cls: Any, init_settings: Any, **_: Any
    ) -> Any:
        """Only what is passed in counts: no environment variable changes a run unseen."""
        return (init_settings,)

    @model_validator(mode="after")
    def _selection_of_task(self) -> Config:
        task, selection = self.data.task, self.selection
        if selection.fit_tokens is not None and task != "corpus":
            raise ValueError(
                f"selection.fit_tokens {selection.fit_tokens} is of no use to data.task {task}, "
                "which counts all of its training examples; leave it out"
            )
        if selection.strategy not in STRATEGIES_OF[task]:
            raise ValueError(
                f"selection.strategy {selection.strategy} is not known to data.task {task}; use "
                f"{', '.join(STRATEGIES_OF[task])}"
            )
        if selection.estimator not in ESTIMATORS_OF[task]:
            if "estimator" in selection.model_fields_set:
                raise ValueError(
                    f"selection.estimator {selection.estimator} is not known to data.task {task}; "
                    f"use {', '.join(ESTIMATORS_OF[task])}"
                )
            default = {"estimator": ESTIMATORS_OF[task][0]}
            self.selection = selection.model_copy(update=default)
        return self

    @model_validator(mode="after")
    def _cross_checks(self) -> Config:
        m, p, t, o = self.model, self.parallel, self.training, self.optimizer
        stages = p.pipeline * p.virtual_pipeline
        rules = (
            (m.layers % stages == 0, "model.layers", m.layers,
             "parallel.pipeline x parallel.virtual_pipeline", stages),
            (m.attention_heads % p.tensor == 0, "model.attention_heads", m.attention_heads,
             "parallel.tensor", p.tensor),
            (m.query_groups % p.tensor == 0, "model.kv_heads", m.query_groups,
             "parallel.tensor", p.tensor),
            (m.ffn_width % p.tensor == 0, "model.ffn_size", m.ffn_width,
             "parallel.tensor", p.tensor),
            (m.vocabulary_size is None or m.vocabulary_size % p.tensor == 0,
             "model.vocabulary_size", m.vocabulary_size, "parallel.tensor", p.tensor),
            (not p.sequence_parallel or m.sequence_length % p.tensor == 0,
             "model.sequence_length", m.sequence_length,
             "parallel.tensor (parallel.sequence_parallel is on)", p.tensor),
        )  # fmt: skip
        for holds, field, value, by, divisor in rules:
            if not holds:
                raise ValueError(f"{field} {value} is not divisible by {by} {divisor}; "
                                 "change one of them")  # fmt: skip
        if t.micro_batch is not None and t.global_batch % t.micro_batch:
            raise ValueError(
                f"training.global_batch {t.global_batch} is not divisible by training.micro_batch "
                f"{t.micro_batch}; choose a multiple"
            )
        if t.spike_zscore is not None and (
            p.zero_stage == 3 or p.offload != "none" or t.precision == "fp16"
        ):
            raise ValueError(
                f"training.spike_zscore {t.spike_zscore} needs parallel.zero_stage 0, 1 or 2 "
                "without offload, in fp32 or bf16: elsewhere DeepSpeed decides alone whether a "
                "step is taken; leave it out"
            )
        window = self.profile.window
        if window is not None and window[1] > t.steps:
            raise ValueError(
                f"profile.steps {self.profile.steps} goes beyond training.steps {t.steps}; choose "
                "earlier steps"
            )
        if o.schedule == "wsd" and o.warmup_steps + self.decay_steps > t.steps:
            raise ValueError(
                f"optimizer.warmup_steps {o.warmup_steps} + optimizer.decay_steps "
                f"{self.decay_steps} exceed training.steps {t.steps}"
            )
        return self

    @property
    def decay_steps(self) -> int:
        """Steps of the final decay of schedule wsd, with the default resolved."""
        return self.optimizer.decay_steps or max(1, self.training.steps // 10)

    def vocabulary_size(self, tokenizer_size: int) -> int:
        """Rows of the embedding for a tokenizer of `tokenizer_size` tokens.

        Raises:
            ConfigError: model.vocabulary_size is smaller than the tokenizer needs.
        """
        size = self.model.vocabulary_size
        if size is None:
            multiple = 8 * self.parallel.tensor
            return -(-tokenizer_size // multiple) * multiple
        if size < tokenizer_size:
            raise ConfigError(
                f"model.vocabulary_size {size} is below the tokenizer's {tokenizer_size} tokens; "
                "leave it out or raise it"
            )
        return size

    def check_layout(self, world_size: int) -> None:
        """Check the rules that join the configuration with the number of processes.

        Raises:
            ConfigError: names the field, what was found and what would do.
        """
        p, t = self.parallel, self.training
        if world_size % p.model_parallel:
            raise ConfigError(
                f"parallel.tensor {p.tensor} x parallel.pipeline {p.pipeline} needs a multiple of "
                f"{p.model_parallel} processes, found {world_size}; start another number or change "
                "the layout"
            )
        if absent := [rank for rank in self.profile.ranks if rank >= world_size]:
            raise ConfigError(
                f"profile.ranks names rank {absent[0]}, but there are {world_size} processes; use "
                f"ranks below {world_size}"
            )
        data_parallel = world_size // p.model_parallel
        if t.global_batch % data_parallel:
            raise ConfigError(
                f"training.global_batch {t.global_batch} is not divisible by the {data_parallel} "
                f"data-parallel ranks; use a multiple of {data_parallel}"
            )
        share = t.global_batch // data_parallel
        if t.micro_batch is not None and share % t.micro_batch:
            raise ConfigError(
                f"training.global_batch {t.global_batch} / {data_parallel} data-parallel ranks = "
                f"{share} is not divisible by training.micro_batch {t.micro_batch}; use a divisor "
                f"of {share}"
            )
        micro_batches = share // (t.micro_batch or share)
        if p.virtual_pipeline > 1 and micro_batches % p.pipeline:
            raise ConfigError(
                f"the interleaved schedule needs a multiple of parallel.pipeline {p.pipeline} "
                f"micro-batches, found {micro_batches}; lower training.micro_batch"
            )

    def to_yaml(self) -> str:
        """The resolved configuration as YAML that loads to the same configuration."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def _close(name: str, known: Sequence[str]) -> str:
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {match[0]}?" if match else f"; known: {', '.join(known)}"


def _fields_at(location: Sequence[Any]) -> list[str]:
    """Names of the fields of the section that holds the last part of `location`."""
    cls: Any = Config
    for part in location[:-1]:
        cls = BlendSource if isinstance(part, int) else cls.model_fields[part].annotation
    prefix = ".".join(str(part) for part in location[:-1])
    return [f"{prefix}.{name}" if prefix else name for name in cls.model_fields]


def _explain(error: ValidationError, source: str) -> str:
    """Few lines, one per problem: the field, what was found, what was expected."""
    lines = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            text = f"unknown field {name}{_close(name, _fields_at(problem['loc']))}"
        elif problem["type"] == "value_error":
            text = str(problem["ctx"]["error"])
        else:
            text = f"{name}: {problem['msg'][0].lower()}{problem['msg'][1:]} " \
                   f"(found {problem['input']!r})"  # fmt: skip
        lines.append(text)
    return f"{source}: " + "\n  ".join(["the configuration is refused", *lines])


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, no YAML, or no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"--config {path}: expected sections, found a {type(values).__name__}")
    return values


def load_config(path: Path | None = None, overrides: dict[str, Any] | None = None) -> Config:
    """Build the configuration from a YAML file and nested overrides.

    Raises:
        ConfigError: a field is unknown, of a wrong type, out of range, or clashes with another.
    """
    values = read_yaml(path) if path is not None else {}
    try:
        return Config(**_merge(values, overrides or {}))
    except ValidationError as error:
        raise ConfigError(_explain(error, str(path) if path else "command line")) from error


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that one rank can speak for all."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            name = unknown.split()[0].split("=")[0].lstrip("-")
            fields = [
                f"{section}.{field}"
                for section, info in Config.model_fields.items()
                for field in info.annotation.model_fields  # type: ignore[union-attr]
            ]
            message = f"unknown option --{name}{_close(name, fields) if '.' in name else ''}"
        raise ConfigError(f"command line: {message}; --help lists every field")


def parse_arguments(
    argv: Sequence[str], program: str, extra: Any = None
) -> tuple[Config, argparse.Namespace]:
    """Read `--config FILE`, dotted overrides and the program's own options.

    Args:
        argv: arguments without the program's name. `--local_rank=N`, which the deepspeed launcher
            appends, is accepted and ignored.
        program: name shown by `--help`.
        extra: called with the parser to add the program's own options.

    Raises:
        ConfigError: as :func:`load_config`, or an option is unknown.
    """
    parser = _Parser(prog=program, description=Config.__doc__, allow_abbrev=False)
    parser.add_argument("--config", type=Path, default=None, help="YAML file with the sections")
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    if extra is not None:
        extra(parser)
    own = {action.dest for action in parser._actions}
    source = CliSettingsSource[Any](
        Config,
        cli_prog_name=program,
        root_parser=parser,
        cli_parse_args=list(argv),
        cli_avoid_json=True,
        cli_hide_none_type=True,
    )
    arguments = parser.parse_args(list(argv))
    overrides = {key: value for key, value in source().items() if key in Config.model_fields}
    config = load_config(arguments.config, overrides)
    return config, argparse.Namespace(
        **{key: value for key, value in vars(arguments).items() if key in own}
    )
