"""The planner's memory and step time beside what `speed` has measured. Needs no device."""

from __future__ import annotations

from typing import Any

from pretrain.model.flops import peak_flops
from pretrain.planning import Machine, make_plan
from tools.bench.interleaved import MIB
from tools.gpu.cells import Cell
from tools.gpu.report import Options, Report

GOAL = 0.08
"""Share of the measured memory that the plan may be away."""


def run(options: Options, report: Report) -> None:
    """Each of our cells."""
    parts = options.read("speed").get("parts", {})
    device = options.read("start").get("parts", {}).get("environment", {}).get("device", "CPU")
    ours = [p for p in parts.values() if "step_seconds" in p and p["side"].startswith("ours")]
    if not ours:
        with report.part("nothing"):
            raise RuntimeError("speed has measured none of our cells; run it first")
    for figures in ours:
        cell = cell_of(figures)
        with report.part(cell.name) as found:
            found.update(planned(cell, figures, device))


def cell_of(figures: dict[str, Any]) -> Cell:
    """The cell that figures are of."""
    return Cell(**{name: figures[name] for name in Cell.__dataclass_fields__})


def planned(cell: Cell, figures: dict[str, Any], device: str) -> dict[str, Any]:
    """Plan and measurement of a cell. The plan knows nothing of torch.compile, which keeps less."""
    peak = peak_flops(device, "bf16")
    machine = None if peak is None else Machine(device, peak)
    config = cell.config(figures["micro_batch"])
    config.training.global_batch = figures["global_batch"]
    plan = make_plan(config, 1, config.model.vocabulary_size, machine)
    measured = figures["device_peak_mib"]
    away = None if measured is None else plan.largest.peak / MIB / measured - 1
    found: dict[str, Any] = {
        "micro_batch": figures["micro_batch"],
        "planned_mib": round(plan.largest.peak / MIB, 1),
        "planned_parts": plan.largest.parts,
        "measured_mib": measured,
        "away": away,
        "planned_step_seconds": None if plan.time is None else plan.time.total,
        "measured_step_seconds": figures["step_seconds"],
    }
    if away is not None and not config.training.compile:
        found["holds"] = abs(away) <= GOAL
    return found
