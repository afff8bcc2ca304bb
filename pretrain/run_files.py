"""The names of files in a run's folder, and how they are read. Nobody else spells one out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pretrain.files import json_lines

CONFIG = "config.yaml"
"""The resolved configuration."""
RESULT = "result.json"
"""Scores and costs of a run that is complete."""
METRICS = "metrics.jsonl"
"""A line for each step that is logged."""
EVALUATIONS = "evaluation.jsonl"
"""A line for each evaluation."""
SELECTION = "selection.json"
"""The last selection."""
SELECTIONS = "selection.jsonl"
"""A line for each selection."""
BAD_STEPS = "bad_steps.jsonl"
"""A line for each step that updated nothing."""
SKIPPED = "passed.json"
"""Stretches of batches that are passed over after going back."""
RANKS = "ranks.json"
"""Where each rank is, written by the heartbeat."""
STOP = "stop"
"""Its presence asks the run to stop."""
CHECKPOINTS = "checkpoints"
"""A folder for each checkpoint."""
MANIFEST = "manifest.json"
"""In a checkpoint's folder, written last: what it holds."""
TABLE = "selection"
"""In a checkpoint's folder: the selector's table."""
PROFILE = "profile"
"""Traces of the profiler."""
TENSORBOARD = "tensorboard"
"""Events of TensorBoard."""
TRACKED = "trackers.json"
"""What trackers call the run."""
VOCABULARY = "vocabulary"
"""The tokenizer of the texts, with the ending of its kind."""
VOCABULARIES = (f"{VOCABULARY}.json", f"{VOCABULARY}.model")

SET_ASIDE = "abandoned"
"""What was recorded of stretches that the run no longer has."""
LOCK = "lock"
"""Held by the run that writes there."""
PASSING = (STOP, RANKS)
"""What a start leaves that was killed before it began anything."""

OWN = (
    RESULT, CONFIG, SELECTION, SELECTIONS, METRICS, BAD_STEPS, EVALUATIONS, TENSORBOARD,
    CHECKPOINTS, PROFILE, STOP, RANKS, SKIPPED, SET_ASIDE, TRACKED,
    *VOCABULARIES,
)  # fmt: skip
"""All that belongs to a run."""


def evaluations(directory: Path) -> Iterator[dict[str, Any]]:
    """Lines of a run's evaluations, first to last; a line that is cut off is left out."""
    return json_lines(directory / EVALUATIONS)


def metrics(directory: Path) -> Iterator[dict[str, Any]]:
    """Lines of a run's logged steps, first to last; a line that is cut off is left out."""
    return json_lines(directory / METRICS)


def selections(directory: Path) -> Iterator[dict[str, Any]]:
    """Lines of a run's selections, first to last; a line that is cut off is left out."""
    return json_lines(directory / SELECTIONS)
