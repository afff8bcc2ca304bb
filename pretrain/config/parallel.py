"""The section `parallel`: how the model is spread over processes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pretrain.config.base import PositiveInt, Section


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
