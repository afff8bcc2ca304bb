"""The runs of a comparison: what each is configured as, and what it left in its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pretrain.config import Config, SelectionConfig, load_config
from pretrain.errors import ConfigError
from pretrain.files import json_lines
from pretrain.objectives.base import objective_of
from pretrain.run_files import CHECKPOINTS, CONFIG, EVALUATIONS, SELECTION, SELECTIONS
from pretrain.training.checkpoint.compatibility import completed
from pretrain.training.checkpoint.manifest import saved_step
from pretrain.training.run_directory import RunDirectory
from tools.comparison.variants import Variant
from tools.report import RunResult


@dataclass(frozen=True)
class Run:
    """One variant with one seed."""

    variant: Variant
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """Folder below the comparison's."""
        return f"{self.variant.folder}-seed{self.seed}"

    @property
    def directory(self) -> Path:
        """Folder of the run."""
        return self.config.run.directory

    @property
    def saved_step(self) -> int:
        """Steps of the newest checkpoint that it goes on from; 0 without any."""
        if self.config.checkpoint.resume == "never":
            return 0
        return saved_step(self.directory / CHECKPOINTS)

    @property
    def was_complete(self) -> bool:
        """Whether it has been complete, after fewer steps than it is to have perhaps."""
        return RunDirectory(self.directory).result() is not None

    @property
    def result(self) -> dict[str, Any] | None:
        """The result of a complete run of exactly this configuration; None otherwise, also for one
        that is to have more steps.

        Raises:
            ConfigError: the folder holds a run of another configuration.
        """
        path = self.directory / CONFIG
        if not path.exists():
            return None
        found = completed(yaml.safe_load(path.read_text(encoding="utf-8")), self.config)
        wanted = yaml.safe_load(self.config.to_yaml())
        different = [
            f"{section}.{field} is {found[section][field]!r} there, {value!r} here"
            for section, fields in wanted.items()
            if section != "run"
            for field, value in fields.items()
            if found[section][field] != value and (section, field) != ("training", "steps")
        ]
        planned, steps = found["training"]["steps"], self.config.training.steps
        if planned > steps:
            different.append(f"training.steps is {planned} there, {steps} here")
        if different:
            raise ConfigError(
                f"{self.directory} holds a run of another configuration: {different[0]}; choose "
                "another --out, or remove that folder"
            )
        result = RunDirectory(self.directory).result()
        # It goes on where it is to have more steps.
        return None if result is not None and result.get("steps", steps) < steps else result


def plan(config: Config, variants: Sequence[Variant], seeds: Sequence[int], out: Path) -> list[Run]:
    """Every run of the comparison; they differ in selection, objective, seed and folder only.

    Raises:
        ConfigError: a variant is refused by the configuration, or is the same as another.
    """
    runs = [
        Run(variant, seed, _configure(config, variant, seed, out))
        for seed in seeds
        for variant in variants
    ]
    first_of: dict[str, Variant] = {}
    for run in runs[: len(variants)]:
        sections = run.config.selection, run.config.objective
        trained = "".join(section.model_dump_json() for section in sections)
        first = first_of.setdefault(trained, run.variant)
        if first is not run.variant:
            raise ConfigError(
                f"--strategies: {first.label} and {run.variant.label} are the same selection and "
                "objective; leave one out"
            )
    return runs


def _configure(config: Config, variant: Variant, seed: int, out: Path) -> Config:
    base = config.model_dump()
    changed = {
        **base,
        "selection": {**base["selection"], **variant.selection},
        "objective": {**base["objective"], **variant.objective},
        "training": {**base["training"], "seed": seed},
        "run": {
            **base["run"],
            "directory": out / f"{variant.folder}-seed{seed}",
            "progress": False,
            # What is not complete goes on from its checkpoints.
            "overwrite": base["checkpoint"]["resume"] == "never",
        },
    }
    try:
        configured = load_config(None, changed)
        objective_of(configured)
    except ConfigError as error:
        raise ConfigError(f"--strategies {variant.label}: {error}") from error
    return configured


def load_run(run: Run) -> RunResult:
    """What a complete run left in its folder."""
    result = run.result
    assert result is not None
    selection = json.loads((run.directory / SELECTION).read_text(encoding="utf-8"))
    # With selection.refresh_every, the fit is the first line, and selection.json the last.
    fits = list(json_lines(run.directory / SELECTIONS))
    evaluations = list(json_lines(run.directory / EVALUATIONS))
    order = _order(run.config.selection, selection)
    # Bits stand beside the order that they imply.
    bits = selection["bits"] if order == tuple(selection["order"]) else None
    flops = [fit["flops"] for fit in fits if fit.get("flops") is not None]
    return RunResult(
        strategy=run.variant.label,
        seed=run.seed,
        order=order,
        unit_names=tuple(selection["unit_names"]),
        bits=None if bits is None else tuple(bits),
        estimator=selection["estimator"],
        tokens=tuple(line["tokens"] for line in evaluations),
        metrics={
            name: tuple(_number(line["metrics"][name]) for line in evaluations)
            for name in result["metrics"]
        },
        unit_accuracy=tuple(tuple(line["unit_accuracy"]) for line in evaluations),
        samples=tuple(evaluations[-1]["samples"]),
        train_seconds=result["train_seconds"],
        selection_seconds=sum(fit["seconds"] for fit in fits),
        selection_flops=float(sum(flops)) if flops else None,
        model_flops=float(result["model_flops"]),
        parameters=result["parameters"],
        peak_memory=result.get("peak_memory_bytes"),
    )


def _order(settings: SelectionConfig, selected: dict[str, Any]) -> tuple[int, ...]:
    """Units as they are predicted for the score that counts; empty where each example has an order
    of its own."""
    if settings.any_order and settings.decoding != "criterion":
        units = len(selected["unit_names"])
        return tuple(range(units)) if settings.decoding == "natural" else ()
    return tuple(selected["order"])


def _number(value: float | None) -> float:
    """A value of a file; JSON has null for what is no number."""
    return math.nan if value is None else value


def title(config: Config) -> str:
    """What is learned, and for how long."""
    return f"{config.data.title()}, {config.training.steps:,} steps"
