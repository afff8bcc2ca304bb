"""A tracker as a callback: what it is told, and what happens when it fails.

A run is one run in its tracker, too: what the tracker calls it is kept in the run's folder, and a
start that goes on takes the same one. A tracker that fails while a run trains (a network, a full
disk) is left alone from then on, which is said once; the records in the run's folder have it all.
"""

from __future__ import annotations

import json
import sys
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from pretrain import registry
from pretrain.config import Config
from pretrain.errors import ConfigError, UserError
from pretrain.files import json_text, write_text
from pretrain.run_files import CONFIG, EVALUATIONS, SELECTION, TRACKED
from pretrain.selection.selector import Selection
from pretrain.tasks.base import Evaluation
from pretrain.training.callbacks import Callback, StepRecord

PROJECT = "mifirst"
"""Of runs whose tracker is not told another one, by the variable that is its own."""


@dataclass(frozen=True)
class Start:
    """A start of a run, as a tracker is told of it.

    Attributes:
        config: of the run.
        directory: of the run.
        step: that it goes on from; 0 where it begins.
        known: what the tracker calls the run; None if it does not know it.
    """

    config: Config
    directory: Path
    step: int
    known: str | None

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration as plain values."""
        return self.config.model_dump(mode="json")


class Tracker(Callback):
    """Hands records on; a subclass is one maker's.

    Args:
        config: of the run.
        directory: of the run, in which what the tracker calls it is kept.
        step: steps that the run goes on from.

    Raises:
        UserError: the tracker cannot be reached, or refuses.
    """

    name: ClassVar[str]
    """In the configuration."""
    package: ClassVar[str]
    """That it needs."""

    def __init__(self, config: Config, directory: Path, step: int = 0) -> None:
        self._directory = directory
        self._ended = "failed"
        self._failed = False
        known = _names(directory)
        start = Start(config, directory, step, known.get(self.name))
        try:
            name = self.begin(start)
        except Exception as error:
            raise UserError(
                f"run.trackers {self.name}: {type(error).__name__}: {error}; mend it, or leave "
                f"{self.name} out"
            ) from error
        write_text(directory / TRACKED, json_text(known | {self.name: name}))

    @abstractmethod
    def begin(self, start: Start) -> str:
        """Begin or go on with a run. Returns what the tracker calls it."""

    @abstractmethod
    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Figures of a step, by name."""

    @abstractmethod
    def fact(self, name: str, value: str) -> None:
        """Something that is true of the run from now on."""

    @abstractmethod
    def file(self, path: Path) -> None:
        """A file to keep with the run, as it is now."""

    @abstractmethod
    def finish(self, ended: str) -> None:
        """The process leaves: the run is `complete`, `stopped` (it can go on) or has `failed`."""

    def on_selection(self, step: int, selection: Selection) -> None:
        """The order, or the strategy where there is no order of units."""
        order = ", ".join(selection.unit_names[unit] for unit in selection.order)
        self._try(
            "fact", "selection", f"{selection.strategy}: {order}" if order else selection.strategy
        )

    def on_log(self, record: StepRecord) -> None:
        """Every figure of a line of metrics.jsonl as `train/NAME`."""
        values = {f"train/{name}": value for name, value in record.values().items()}
        self._try("numbers", values, record.step)

    def on_evaluation(self, step: int, tokens: int, evaluation: Evaluation) -> None:
        """Every metric as `evaluation/NAME`."""
        known = {
            f"evaluation/{name}": value
            for name, value in evaluation.figures.items()
            if value is not None
        }
        self._try("numbers", known, step)

    def on_end(self, step: int) -> None:
        """Complete: the records go along."""
        self._ended = "complete"

    def on_stop(self, step: int) -> None:
        """It can go on."""
        self._ended = "stopped"

    def close(self) -> None:
        """The files of the run, then the end."""
        if self._ended != "failed":
            for name in (CONFIG, EVALUATIONS, SELECTION):
                if (self._directory / name).exists():
                    self._try("file", self._directory / name)
        self._try("finish", self._ended)

    def _try(self, method: str, *arguments: Any) -> None:
        if self._failed:
            return
        try:
            getattr(self, method)(*arguments)
        except Exception as error:
            self._failed = True
            print(
                f"warning: run.trackers {self.name}: {type(error).__name__}: {error}; nothing more "
                f"goes there until the next start, and all is in {self._directory}",
                file=sys.stderr,
                flush=True,
            )


def _names(directory: Path) -> dict[str, str]:
    """What trackers call the run, by tracker."""
    try:
        found: dict[str, str] = json.loads((directory / TRACKED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def tracker_classes(config: Config) -> list[type[Tracker]]:
    """Those of `run.trackers`.

    Raises:
        ConfigError: the package of one is not installed.
    """
    classes: list[type[Tracker]] = [
        registry.load(registry.TRACKERS[name]) for name in config.run.trackers
    ]
    for tracker in classes:
        if find_spec(tracker.package) is None:
            raise ConfigError(
                f"run.trackers {tracker.name}: the package {tracker.package} is not installed; "
                f"pip install 'mifirst[{tracker.name}]'"
            )
    return classes
