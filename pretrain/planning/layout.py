"""A configuration on a number of processes, as the formulas see it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pretrain.config import Config, ModelConfig, ParallelConfig
from pretrain.distributed.zero import accumulates_in_fp32, deepspeed_config, zero_stage
from pretrain.objectives.base import Objective, objective_of
from pretrain.optimizers.base import Optimizer, optimizer_of

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Layout:
    """Who holds what.

    Attributes:
        config: a configuration whose `check_layout(gpus)` holds.
        gpus: processes in all.
        vocabulary: rows of the embedding.
        device: kind of device; some operations keep other tensors on a CPU.
    """

    config: Config
    gpus: int
    vocabulary: int
    device: Device = "cuda"

    @property
    def model(self) -> ModelConfig:
        """The model's section."""
        return self.config.model

    @property
    def parallel(self) -> ParallelConfig:
        """The layout's section."""
        return self.config.parallel

    @cached_property
    def objective(self) -> Objective:
        """What is minimised."""
        return objective_of(self.config)

    @cached_property
    def optimizer(self) -> Optimizer:
        """What steps the weights."""
        return optimizer_of(self.config)

    @cached_property
    def data_parallel(self) -> int:
        """Copies of the model."""
        return self.gpus // self.parallel.model_parallel

    @cached_property
    def micro_batch(self) -> int:
        """Sequences per forward pass and rank."""
        training = self.config.training
        return training.micro_batch or training.global_batch // self.data_parallel

    @cached_property
    def micro_batches(self) -> int:
        """Forward passes of a copy of the model per step."""
        return self.config.training.global_batch // self.data_parallel // self.micro_batch

    @cached_property
    def micro_tokens(self) -> int:
        """Tokens of a micro-batch."""
        return self.micro_batch * self.model.sequence_length

    @cached_property
    def width(self) -> int:
        """Bytes of a weight, an activation, or a micro-batch's gradient."""
        return 4 if self.config.training.precision == "fp32" else 2

    @cached_property
    def gradient_width(self) -> int:
        """Bytes of a gradient that micro-batches are added up in."""
        return 4 if accumulates_in_fp32(self.config, self.data_parallel) else self.width

    @cached_property
    def sequence_split(self) -> int:
        """Ranks that share the activations between tensor-parallel regions."""
        return self.parallel.tensor if self.parallel.sequence_parallel else 1

    @cached_property
    def stage(self) -> int:
        """ZeRO stage that DeepSpeed runs at."""
        return zero_stage(self.config, self.data_parallel)

    @cached_property
    def masked(self) -> bool:
        """Whether attention gets a mask: texts are packed, and documents do not see each other."""
        return self.config.data.packs_documents

    def zero_settings(self, parameters: int) -> dict[str, object]:
        """DeepSpeed's `zero_optimization` for a rank that holds `parameters`."""
        settings: dict[str, object] = deepspeed_config(self.config, self.data_parallel, parameters)[
            "zero_optimization"
        ]
        return settings

    def describe(self) -> str:
        """One line: TP, PP, DP and what goes with them."""
        p, t = self.parallel, self.config.training
        virtual = f"x{p.virtual_pipeline}" if p.virtual_pipeline > 1 else ""
        parts = [
            f"TP{p.tensor}{'+SP' if p.sequence_parallel else ''}",
            f"PP{p.pipeline}{virtual}",
            f"DP{self.data_parallel}",
            f"ZeRO-{self.stage}",
            f"micro-batch {self.micro_batch} x {self.micro_batches}",
            f"recompute {t.recompute}",
        ]
        return ", ".join(parts)
