"""All sections together, and the rules that join them."""

from __future__ import annotations

from typing import Any, get_args

import yaml
from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pretrain.config.checkpoint import CheckpointConfig
from pretrain.config.data import AnyData, default_section
from pretrain.config.model import ModelConfig
from pretrain.config.objective import ObjectiveConfig
from pretrain.config.optimizer import OptimizerConfig
from pretrain.config.parallel import ParallelConfig
from pretrain.config.profile import ProfileConfig
from pretrain.config.run import RunConfig
from pretrain.config.selection import OF_PLANS, Criterion, SelectionConfig
from pretrain.config.training import TrainingConfig
from pretrain.errors import ConfigError


class Config(BaseSettings):
    """Everything a run is made of."""

    model_config = SettingsConfigDict(
        extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    model: ModelConfig = ModelConfig()
    parallel: ParallelConfig = ParallelConfig()
    data: AnyData = Field(default_factory=default_section)
    selection: SelectionConfig = SelectionConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
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
        data, selection = self.data, self.selection
        if selection.fit_tokens is not None and not data.counts_part:
            raise ValueError(
                f"selection.fit_tokens {selection.fit_tokens} is of no use to data.task "
                f"{data.task}, which counts all of its training examples; leave it out"
            )
        if selection.strategy not in data.strategies:
            raise ValueError(
                f"selection.strategy {selection.strategy} is not known to data.task "
                f"{data.task}; use {', '.join(data.strategies)}"
            )
        self._check_plans()
        if selection.any_order:
            self.selection = selection = self._checked_any_order()
        if "estimator" not in selection.model_fields_set:
            default = {"estimator": data.estimators[0]}
            self.selection = selection.model_copy(update=default)
        elif selection.estimator not in data.estimators:
            raise ValueError(
                f"selection.estimator {selection.estimator} is not known to data.task "
                f"{data.task}; use {', '.join(data.estimators)}"
            )
        thin = self.selection.estimator == "k_local"
        if thin and "correction" not in selection.model_fields_set:
            self.selection = self.selection.model_copy(update={"correction": "leave_one_out"})
        return self

    def _check_plans(self) -> None:
        """Refuse what is said of tokens in front of sentences where there are none."""
        data, selection = self.data, self.selection
        if data.plans_sentences and selection.strategy != "ntp":
            return
        where = f"selection.strategy {selection.strategy} of data.task {data.task}"
        for name in OF_PLANS:
            if (value := getattr(selection, name)) != type(selection).model_fields[name].default:
                raise ValueError(
                    f"selection.{name} {value} is of no use to {where}, which puts no token in "
                    "front of a sentence; leave it out"
                )

    def _checked_any_order(self) -> SelectionConfig:
        """The section, with how sets are decoded: of them a model writes what it is surest of.

        Raises:
            ValueError: the task does not know the criterion, or cannot decode so.
        """
        data, selection = self.data, self.selection
        if selection.criterion not in data.strategies:
            known = (name for name in get_args(Criterion) if name in data.strategies)
            raise ValueError(
                f"selection.criterion {selection.criterion} is not known to data.task "
                f"{data.task}; use {', '.join(known)}"
            )
        if data.fixed_units:
            return selection
        if selection.decode not in (None, "adaptive"):
            raise ValueError(
                f"selection.decode {selection.decode}: a model of data.task {data.task} cannot be "
                "asked for one unit, and writes the one that it is surest of; leave it out"
            )
        return selection.model_copy(update={"decode": "adaptive"})

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
    def asks_units(self) -> bool:
        """Whether the model is told which unit of a target it is asked for next."""
        return self.selection.any_order and self.data.fixed_units

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
