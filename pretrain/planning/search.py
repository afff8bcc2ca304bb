"""Layouts for a number of devices: which fit their memory, fastest first, and why others do not."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from pydantic import ValidationError

from pretrain.config import Config, ParallelConfig, TrainingConfig
from pretrain.errors import ConfigError
from pretrain.planning.layout import Layout
from pretrain.planning.memory import States, largest
from pretrain.planning.plan import RECOMPUTES, Plan
from pretrain.planning.step_time import Machine

MOST_CHUNKS = 8
LARGEST_MICRO_BATCH = 64


@dataclass(frozen=True)
class Search:
    """Layouts that were tried.

    Attributes:
        fitting: plans that fit, shortest estimated step first: each layout with its best
            micro-batch.
        fit: how many combinations fit.
        misses: plans that do not and would be faster than the best that fits, smallest peak first,
            one for each TP, PP and ZeRO stage.
        refused: how many combinations each rule of the configuration refuses, with one of its
            messages.
        tried: combinations in all.
        limit: bytes that a rank may use.
    """

    fitting: list[Plan]
    fit: int
    misses: list[Plan]
    refused: list[tuple[int, str]]
    tried: int
    limit: int


def search(config: Config, gpus: int, vocabulary: int, machine: Machine, limit: int) -> Search:
    """Try all layouts of `gpus` devices: tensor, pipeline, virtual_pipeline, zero_stage,
    sequence_parallel, recompute and micro_batch. All else stays as configured. Of ZeRO stages that
    come to the same the lowest is listed.

    Args:
        limit: bytes that a rank may use.
    """
    fitting: list[Plan] = []
    misses: list[Plan] = []
    refused: Counter[str] = Counter()
    examples: dict[str, str] = {}
    tried = 0

    def refuse(message: str) -> None:
        rule = re.sub(r"\d+", "N", message)
        refused[rule] += 1
        examples.setdefault(rule, message)

    for parallel in _parallel_sections(gpus, config.model.layers):
        trainings = list(_training_sections(config, gpus // parallel["model_parallel"]))
        tried += len(trainings)
        base = _with_parallel(config, parallel)
        if isinstance(base, str):
            for _ in trainings:
                refuse(base)
            continue
        states: States = {}
        for training in trainings:
            candidate = base.model_copy(update={"training": training})
            try:
                candidate.check_layout(gpus)
            except ConfigError as error:
                refuse(str(error))
                continue
            layout = Layout(candidate, gpus, vocabulary)
            if _cheapest_stage(layout) != base.parallel.zero_stage:
                continue
            plan = Plan(layout, machine, largest(layout, states))
            (fitting if plan.largest.peak <= limit else misses).append(plan)
    best = _best_of_each(fitting)
    return Search(
        best,
        len(fitting),
        _nearest(misses, _rank(best[0])[0] if best else math.inf),
        [(count, examples[rule]) for rule, count in refused.most_common()],
        tried,
        limit,
    )


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _parallel_sections(gpus: int, layers: int) -> Iterator[dict[str, int | bool]]:
    """Fields of `parallel`, and `model_parallel`."""
    powers = [t for t in (1, 2, 4, 8, 16) if gpus % t == 0]
    for tensor in powers:
        for pipeline in _divisors(gpus // tensor):
            if pipeline > layers:
                continue
            chunks = [1]
            if pipeline > 1 and layers % pipeline == 0:
                chunks = [v for v in _divisors(layers // pipeline) if v <= MOST_CHUNKS]
            sequence = (False, True) if tensor > 1 else (False,)
            for virtual, zero, split in product(chunks, range(4), sequence):
                yield {
                    "tensor": tensor,
                    "pipeline": pipeline,
                    "virtual_pipeline": virtual,
                    "zero_stage": zero,
                    "sequence_parallel": split,
                    "model_parallel": tensor * pipeline,
                }


def _training_sections(config: Config, data_parallel: int) -> Iterator[TrainingConfig]:
    share = max(1, config.training.global_batch // data_parallel)
    size = 1
    while size <= min(share, LARGEST_MICRO_BATCH):
        for recompute in RECOMPUTES:
            yield config.training.model_copy(update={"micro_batch": size, "recompute": recompute})
        size *= 2


def _with_parallel(config: Config, fields: dict[str, int | bool]) -> Config | str:
    """The configuration with this layout, or the rule that refuses it."""
    given = config.parallel.model_dump() | {
        name: value for name, value in fields.items() if name != "model_parallel"
    }
    try:
        parallel = ParallelConfig(**given)
        return Config(
            **{name: getattr(config, name) for name in Config.model_fields} | {"parallel": parallel}
        )
    except ValidationError as error:
        problem = error.errors()[0]
        return str(problem.get("ctx", {}).get("error", problem["msg"]))


def _cheapest_stage(layout: Layout) -> int:
    """Lowest ZeRO stage that comes to the same: the one that is run, and 1 instead of 2 under a
    pipeline, where gradients are reduced once, or on one copy."""
    same = layout.stage == 2 and (layout.parallel.pipeline > 1 or layout.data_parallel == 1)
    return 1 if same else layout.stage


def _rank(plan: Plan) -> tuple[float, int, int, int]:
    """Estimated seconds to a ten-thousandth, then the larger micro-batch, which keeps a device
    busier, then the lower ZeRO stage, then fewer bytes."""
    assert plan.time is not None
    layout = plan.layout
    seconds = float(f"{plan.time.total:.4g}")
    return seconds, -layout.micro_batch, layout.stage, plan.largest.peak


def _best_of_each(plans: list[Plan]) -> list[Plan]:
    """Each layout with its best micro-batch, best first."""
    best: dict[str, Plan] = {}
    for plan in sorted(plans, key=_rank):
        layout = plan.layout
        kind = f"{layout.parallel.model_dump()} {layout.config.training.recompute}"
        best.setdefault(kind, plan)
    return list(best.values())


def _nearest(misses: list[Plan], seconds: float) -> list[Plan]:
    """Those that would take fewer seconds, the smallest of each TP, PP and ZeRO stage; nearest
    first."""
    best: dict[tuple[int, int, int], Plan] = {}
    for plan in sorted(misses, key=lambda plan: plan.largest.peak):
        p = plan.layout.parallel
        if _rank(plan)[0] < seconds:
            best.setdefault((p.tensor, p.pipeline, plan.layout.stage), plan)
    return list(best.values())
