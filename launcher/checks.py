"""Whether a plan can run on what a job asks for, before it waits in a queue."""

from __future__ import annotations

import math
import re

from launcher.settings import Settings, minutes
from pretrain.config import Config
from pretrain.errors import ConfigError, UserError


def check(config: Config, settings: Settings) -> list[str]:
    """What there is to say about the plan, in lines.

    Raises:
        ConfigError: the layout does not fit the ranks, or the memory does not fit the GPUs.
    """
    try:
        config.check_layout(settings.ranks)
    except ConfigError as error:
        raise ConfigError(
            f"--nodes {settings.nodes} x {settings.ranks_per_node} ranks per node: {error}"
        ) from error
    if config.run.device == "cuda" and not settings.gpus_per_node:
        raise ConfigError("run.device cuda needs GPUs; give --gpus-per-node")
    ways = config.parallel
    data = settings.ranks // ways.model_parallel
    lines = [
        f"{settings.nodes} x {settings.ranks_per_node} ranks: tensor {ways.tensor} x data {data} x "
        f"pipeline {ways.pipeline}"
    ]
    if settings.gpu_memory is None:
        return lines
    from pretrain.planning import make_plan
    from pretrain.planning.report import size
    from tools.plan import RESERVE, bytes_of

    limit = int(bytes_of(settings.gpu_memory) * (1 - RESERVE))
    try:
        needed = make_plan(config, settings.ranks).largest.peak
    except UserError as error:
        raise ConfigError(
            f"--gpu-memory {settings.gpu_memory} cannot be checked: {error}"
        ) from error
    if needed > limit:
        raise ConfigError(
            f"--gpu-memory {settings.gpu_memory}: a rank needs {size(needed)}, and {size(limit)} "
            f"may be used; python -m tools.plan --gpus {settings.ranks} finds layouts that fit"
        )
    return [*lines, f"{size(needed)} of {size(limit)} on the fullest GPU"]


def warnings(config: Config, settings: Settings) -> list[str]:
    """What the planner expects to be too little of what a job asks for: wall time, and memory of a
    node where it is given; empty where it cannot tell."""
    from pretrain.model.flops import PEAKS
    from pretrain.planning import Machine, make_plan

    cuda = settings.gpus_per_node > 0 and config.run.device != "cpu"
    default = Machine()
    peak = PEAKS[default.device].get(config.training.precision)
    machine = Machine(peak=peak, node=settings.ranks_per_node) if cuda and peak else None
    try:
        plan = make_plan(config, settings.ranks, None, machine, "cuda" if cuda else "cpu")
    except (UserError, OSError):  # a tokenizer that is not here, for example
        return []
    lines = []
    if plan.time is not None and settings.time is not None:
        needed = plan.time.total * config.training.steps / 60
        given = minutes(settings.time) - settings.signal_seconds / 60
        if given < needed:
            starts = math.ceil(needed / max(given, 1e-9))
            lines.append(
                f"--time {settings.time}: {config.training.steps:,} steps take about "
                f"{_words(needed)} on {settings.ranks} x {default.device} (python -m tools.plan), "
                f"more than one attempt has; the job saves, is put back and goes on, some {starts} "
                "times"
            )
    peak_bytes = plan.largest.state.host if cuda else plan.largest.peak
    needed_bytes = settings.ranks_per_node * (peak_bytes + plan.selector_bytes)
    asked = _memory(settings)
    if asked is not None and asked[1] < needed_bytes:
        from pretrain.planning.report import size

        lines.append(
            f"{asked[0]}: the ranks of a node need about {size(needed_bytes)}, besides what Python "
            "and libraries take (python -m tools.plan)"
        )
    return lines


def _words(needed: float) -> str:
    """Minutes for people."""
    hours, rest = divmod(math.ceil(needed), 60)
    return f"{hours:,} h {rest} min" if hours else f"{rest} min"


def _memory(settings: Settings) -> tuple[str, float] | None:
    """The option of sbatch that asks for memory, and the bytes of a node that it comes to; None
    without one, or where all of a node is asked for."""
    times = {
        "--mem": 1,
        "--mem-per-cpu": (settings.cpus_per_task or 1) * settings.ranks_per_node,
        "--mem-per-gpu": settings.gpus_per_node,
    }
    found = None
    for option in settings.sbatch:
        name, _, value = option.partition("=")
        match = re.fullmatch(r"(\d+)([KMGT]?)B?", value, re.IGNORECASE)
        if name in times and match and int(match[1]):
            unit = 1024 ** ("KMGT".index(match[2].upper() or "M") + 1)
            found = option, float(int(match[1]) * unit * times[name])
    return found
