"""All that is known about a layout beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pretrain.config import Config
from pretrain.errors import ConfigError, UserError
from pretrain.model.flops import ModelCost, model_cost
from pretrain.planning.activations import activations
from pretrain.planning.layout import Device, Layout
from pretrain.planning.memory import Memory, largest, memory_of
from pretrain.planning.selector import selector_bytes
from pretrain.planning.step_time import Machine, StepTime, step_time
from pretrain.planning.traffic import Traffic, traffic_of

RECOMPUTES = ("none", "selective", "full")


@dataclass(frozen=True)
class Plan:
    """What a layout costs.

    Attributes:
        layout: who holds what.
        machine: what step times are estimated for; None for no estimate.
        largest: memory of the stage with the largest peak.
    """

    layout: Layout
    machine: Machine | None
    largest: Memory

    @cached_property
    def cost(self) -> ModelCost:
        """Parameters and FLOPs of the undivided model."""
        layout = self.layout
        asked = layout.config.asks_units
        return model_cost(layout.model, layout.vocabulary, layout.objective, asked)

    @cached_property
    def stages(self) -> list[Memory]:
        """Memory of one rank of each pipeline stage."""
        return [memory_of(self.layout, stage) for stage in range(self.layout.parallel.pipeline)]

    @cached_property
    def traffic(self) -> Traffic:
        """Bytes sent per step."""
        return traffic_of(self.layout, self.largest.parameters)

    @cached_property
    def time(self) -> StepTime | None:
        """Estimated step, where there is a machine."""
        if self.machine is None:
            return None
        return step_time(self.layout, self.traffic, self.machine)

    @property
    def activations_by_recompute(self) -> dict[str, int]:
        """Bytes of activations of the largest stage for each setting of training.recompute."""
        stage = self.largest.stage
        return {name: activations(self.layout, stage, name).kept for name in RECOMPUTES}

    @property
    def selector_bytes(self) -> int:
        """Of the host's memory, at most, on each rank that reads data."""
        return selector_bytes(self.layout)

    @property
    def tokens(self) -> int:
        """Positions of a step."""
        return self.layout.config.training.global_batch * self.layout.model.sequence_length


def make_plan(
    config: Config,
    gpus: int,
    vocabulary: int | None = None,
    machine: Machine | None = None,
    device: Device = "cuda",
) -> Plan:
    """Plan `config` on `gpus` processes.

    Args:
        vocabulary: rows of the embedding; :func:`vocabulary_of` the configuration if not given.

    Raises:
        ConfigError: the layout does not fit the number of processes.
    """
    config.check_layout(gpus)
    layout = Layout(config, gpus, vocabulary or vocabulary_of(config), device)
    return Plan(layout, machine, largest(layout))


def vocabulary_of(config: Config) -> int:
    """Rows of the embedding, without reading any text.

    Raises:
        ConfigError: neither model.vocabulary_size nor a tokenizer says so.
    """
    if config.model.vocabulary_size is not None:
        return config.model.vocabulary_size
    try:
        size = config.data.known_vocabulary()
    except UserError as error:
        raise ConfigError(
            f"model.vocabulary_size is not given and data.tokenizer does not say it: {error}; set "
            "model.vocabulary_size"
        ) from None
    if size is None:
        why = "the tokenizer is made of the data"
        if hasattr(config.data, "tokenizer"):
            named = config.data.tokenizer is not None
            why = f"data.tokenizer {'alone does not say it' if named else 'names no file'}"
        raise ConfigError(
            f"model.vocabulary_size is not given and {why}, so that the size of the embedding is "
            "not known before the data are read; set model.vocabulary_size"
        )
    return config.vocabulary_size(size)
