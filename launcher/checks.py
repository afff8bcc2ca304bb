"""Whether a plan can run on what a job asks for, before it waits in a queue."""

from __future__ import annotations

from launcher.settings import Settings
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
