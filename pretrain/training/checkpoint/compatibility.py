"""Whether a configuration is still the one of a run that has begun."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from pretrain.config import Config, ModelConfig
from pretrain.errors import ConfigError
from pretrain.objectives.base import objective_of
from pretrain.run_files import CHECKPOINTS
from pretrain.training.checkpoint.manifest import newest_first

FREE_SECTIONS = ("run", "checkpoint", "parallel", "profile")
FREE_FIELDS = {
    "training": {
        "steps", "micro_batch", "max_minutes", "recompute", "compile",
        "max_bad_steps", "on_bad_steps",
        "evaluate_every", "evaluation_examples", "evaluation_batch",
    },
    "selection": {"table", "chunk_tokens", "memory_gb", "count_on", "decode"},
    "data": {"blend", "evaluate_on"},
    "model": {"vocabulary_size"},
}  # fmt: skip
"""Fields that may change when a run goes on; all others make it another run."""


def changes(before: dict[str, Any], config: Config, moved: Collection[str] = ()) -> Iterator[str]:
    """Fields that make `config` another run than the one of the configuration `before`.

    Args:
        moved: fields that say where something lies of which the content is compared; they may
            change, too.
    """
    was = completed(before, config)
    for section, fields in config.model_dump(mode="json").items():
        if section in FREE_SECTIONS:
            continue
        for name, value in fields.items():
            if f"{section}.{name}" in moved:
                continue
            old = was[section][name]
            if name not in FREE_FIELDS.get(section, ()) and old != value:
                yield f"{section}.{name} was {old!r} and is {value!r}"


def completed(before: dict[str, Any], config: Config) -> dict[str, dict[str, Any]]:
    """The sections of `before`, which may be of an older version, with the defaults of the fields
    of `config` that were not there yet."""
    return {
        section: {
            **type(getattr(config, section)).model_construct().model_dump(mode="json"),
            **before.get(section, {}),
        }
        for section in type(config).model_fields
    }


IMPORTED_MODEL = (
    "preset", "layers", "hidden_size", "attention_heads", "query_groups", "ffn_width", "tied",
    "rope_base", "gelu",
)  # fmt: skip
"""What decides, defaults resolved, what given weights compute."""


def check_same_model(before: dict[str, Any], config: Config, source: Path) -> None:
    """Refuse to begin with the weights of another model, or with a head that they lack; all else is
    free.

    Raises:
        ConfigError: names what differs, what it was and is.
    """
    was, now = ModelConfig(**before["model"]), config.model
    found = [
        f"{name} is {getattr(now, name)!r}, not {getattr(was, name)!r}"
        for name in IMPORTED_MODEL
        if getattr(now, name) != getattr(was, name)
    ]
    if found:
        raise ConfigError(
            f"{source} holds the weights of another model: {'; '.join(found)}; use the model "
            "section of the config.yaml beside it"
        )
    if objective_of(config).matrices(1, 1):
        raise ConfigError(
            f"objective.name {config.objective.name} has a head of its own, and {source}, which "
            "was imported, holds no weights for it; use cross_entropy"
        )


def check_same_run(
    before: dict[str, Any], config: Config, source: Path, moved: Collection[str] = ()
) -> None:
    """Refuse to go on with another model, other data or another optimizer.

    Args:
        moved: see :func:`changes`.

    Raises:
        ConfigError: names the fields, what they were and are, and the way out.
    """
    found = list(changes(before, config, moved))
    if found:
        raise ConfigError(
            f"{source} is of another run: {'; '.join(found)}; put them back, choose another "
            "run.directory, or start over with --checkpoint.resume never --run.overwrite true"
        )


def any_checkpoint(directory: Path) -> bool:
    """Whether a run's folder holds checkpoints, complete or not."""
    return next(newest_first(directory / CHECKPOINTS), None) is not None
