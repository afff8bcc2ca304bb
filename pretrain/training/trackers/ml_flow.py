"""MLflow, where its own variables say (MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pretrain.training.trackers.base import PROJECT, Start, Tracker

STATUS = {"complete": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
LONGEST = 6000
"""Characters of a parameter."""
AT_ONCE = 100
"""Parameters of a request."""


class MLflow(Tracker):
    """A run of an experiment. Parameters are the configuration, `section.field`."""

    name = "mlflow"
    package = "mlflow"

    def begin(self, start: Start) -> str:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        if start.known is not None:
            self._name = start.known
            self._client.update_run(self._name, status="RUNNING")
            self.fact("resumed_at", str(start.step))
            return self._name
        run = self._client.create_run(self._experiment(), run_name=start.directory.resolve().name)
        self._name = run.info.run_id
        params = [Param(name, str(value)[:LONGEST]) for name, value in _flat(start.settings)]
        for first in range(0, len(params), AT_ONCE):
            self._client.log_batch(self._name, params=params[first : first + AT_ONCE])
        return self._name

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        made: str = found.experiment_id if found else self._client.create_experiment(name)
        return made

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._name, metrics=metrics)

    def fact(self, name: str, value: str) -> None:
        self._client.set_tag(self._name, name, value)

    def file(self, path: Path) -> None:
        self._client.log_artifact(self._name, str(path))

    def finish(self, ended: str) -> None:
        self._client.set_terminated(self._name, status=STATUS[ended])


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
