"""Weights & Biases, online or offline as its own variables say (WANDB_MODE, WANDB_PROJECT)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from pretrain.training.trackers.base import PROJECT, Start, Tracker


class WeightsAndBiases(Tracker):
    """A run of a project; figures stand against their own `step`, so that steps which are trained
    again are drawn again and not refused."""

    name = "wandb"
    package = "wandb"

    def begin(self, start: Start) -> str:
        import wandb

        name = start.known or uuid4().hex[:8]
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=start.directory.resolve().name,
            id=name,
            resume="allow",
            dir=str(start.directory),
            config=start.settings,
            allow_val_change=True,
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")
        if start.step:
            self.fact("resumed_at", str(start.step))
        return name

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, "step": step})

    def fact(self, name: str, value: str) -> None:
        self._run.summary[name] = value

    def file(self, path: Path) -> None:
        self._run.log_artifact(str(path), name=f"{self._run.id}-{path.stem}", type="run")

    def finish(self, ended: str) -> None:
        self.fact("ended", ended)
        self._run.finish(exit_code=1 if ended == "failed" else 0)
