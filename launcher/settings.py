"""What a job asks of a cluster: typed, from the command line and a file of defaults per cluster."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pretrain.config.base import write_path_out
from pretrain.config.names import hint
from pretrain.config.strict_yaml import load_yaml
from pretrain.errors import ConfigError

PositiveInt = Annotated[int, Field(ge=1)]
Time = Annotated[str, Field(pattern=r"^(\d+|\d+:\d+(:\d+)?|\d+-\d+(:\d+){0,2})$")]
Words = Annotated[str, Field(min_length=1, pattern=r"^\S+$")]
PathText = Annotated[
    str, Field(min_length=1, pattern=r"^[^\n\r]+$"), AfterValidator(write_path_out)
]
"""A path on the nodes, which may have spaces."""


class Settings(BaseModel):
    """What a job asks of a cluster, and how it behaves there."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    nodes: PositiveInt = 1
    """Nodes of the job."""
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    """GPUs of each node that the job uses; 0 on a cluster of CPUs."""
    tasks_per_node: PositiveInt | None = None
    """Ranks on each node; one per GPU if not given."""
    cpus_per_task: PositiveInt | None = None
    """Cores of each rank; as the cluster has it if not given."""
    time: Time | None = None
    """Wall time of one attempt, as SLURM writes it: 24:00:00, 2-12:00, or minutes."""
    partition: Words | None = None
    """Partition."""
    account: Words | None = None
    """Account that is charged."""
    qos: Words | None = None
    """Quality of service."""
    container: PathText | None = None
    """Image that the ranks run in."""
    runtime: Literal["pyxis", "apptainer"] = "pyxis"
    """What starts containers: SLURM's Pyxis plugin (Enroot), or Apptainer."""
    mounts: tuple[PathText, ...] = ()
    """Folders that a container sees besides the working folder and the program's."""
    starter: Literal["srun", "torchrun", "deepspeed"] = "srun"
    """What starts the ranks: srun, one task per device; or one task per node, under torchrun or
    deepspeed."""
    signal_seconds: Annotated[int, Field(ge=10, le=65_535)] = 120
    """Seconds before wall time at which the run is told to save and stop; SLURM may be a minute
    early. A step, an evaluation and a checkpoint have to fit."""
    restarts: Annotated[int, Field(ge=0)] = 3
    """Restarts in a row without a newer checkpoint after which the job ends."""
    preflight_seconds: Annotated[int, Field(ge=0)] = 180
    """Longest time of the check of nodes before training; 0 leaves it out."""
    python: PathText | None = None
    """Interpreter on the nodes; the one that submits if not given, python3 in a container."""
    gpu_memory: Annotated[str, Field(pattern=r"^\d+(\.\d+)?\s*(GB|GiB|MB|MiB)$")] | None = None
    """Memory of a GPU, such as 80GB: a plan that does not fit is not submitted."""
    setup: tuple[str, ...] = ()
    """Lines of shell that the batch script runs first, such as `module load cuda`."""
    environment: dict[str, str] = {}
    """Variables of the job, such as NCCL_SOCKET_IFNAME."""
    sbatch: tuple[Annotated[str, Field(pattern=r"^--\w[\w-]*(=.*)?$")], ...] = ()
    """More options of sbatch, such as --exclude=n3."""

    @model_validator(mode="after")
    def _cores_for_each_rank(self) -> Settings:
        ranks = self.ranks_per_node
        told = ("--cpus-per-task", "--cpus-per-gpu", "--exclusive", "--mincpus")
        if self.starter == "srun" or self.cpus_per_task or ranks == 1:
            return self
        if any(option.partition("=")[0] in told for option in self.sbatch):
            return self
        raise ValueError(
            f"starter {self.starter} starts {ranks} ranks in one task of each node, which gets one "
            "core unless SLURM is told otherwise; give cpus_per_task (--cpus-per-task), the cores "
            "of each rank"
        )

    @model_validator(mode="after")
    def _container_used(self) -> Settings:
        if self.mounts and self.container is None:
            raise ValueError(
                f"mounts {','.join(self.mounts)} are of no use without container; name its image"
            )
        return self

    @property
    def ranks_per_node(self) -> int:
        """Ranks on each node, with the default resolved."""
        return self.tasks_per_node or max(1, self.gpus_per_node)

    @property
    def ranks(self) -> int:
        """Ranks of the job."""
        return self.nodes * self.ranks_per_node


def minutes(time: str) -> float:
    """Minutes of a wall time as SLURM writes it: minutes, minutes:seconds, hours:minutes:seconds,
    days-hours, days-hours:minutes or days-hours:minutes:seconds."""
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, mins, seconds = [*parts, 0, 0][:3]
        return 24 * 60 * int(days) + 60 * hours + mins + seconds / 60
    if len(parts) == 3:
        return 60 * parts[0] + parts[1] + parts[2] / 60
    return parts[0] + (parts[1] / 60 if len(parts) == 2 else 0)


def clusters_folder() -> Path:
    """Where files of defaults are: one per cluster, NAME.yaml."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "mifirst" / "clusters"


def cluster_file(name: str | None, here: str | None) -> Path | None:
    """The file of the cluster `name`; if not given, that of the cluster `here`, if there is one.

    Raises:
        ConfigError: `name` has no file.
    """
    folder = clusters_folder()
    if name is None:
        path = folder / f"{here}.yaml"
        return path if here and path.exists() else None
    path = folder / f"{name}.yaml"
    if not path.exists():
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        raise ConfigError(
            f"--cluster {name}: there is no {path}; "
            + (f"known: {', '.join(known)}" if known else "write it, or give the options here")
        )
    return path


def resolve(path: Path | None, given: dict[str, Any]) -> Settings:
    """Settings from a cluster's file and what was given on the command line, which counts.

    Raises:
        ConfigError: names the file or option, the field, what was found and what was expected.
    """
    defaults = _read(path) if path is not None else {}
    if path is not None:
        _validated(defaults, str(path))  # so that an error in the file names the file
    merged = {**defaults, **given}
    for name in ("sbatch", "environment"):  # these add up
        if name in defaults and name in given:
            both = defaults[name], given[name]
            merged[name] = {**both[0], **both[1]} if name == "environment" else [*both[0], *both[1]]
    return _validated(merged, "command line")


def _read(path: Path) -> dict[str, Any]:
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(values or {}, dict):
        raise ConfigError(f"{path}: expected fields and values, found a {type(values).__name__}")
    return values or {}


def _validated(values: dict[str, Any], source: str) -> Settings:
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ConfigError(
            "\n  ".join(f"{source}: {_explain(problem)}" for problem in error.errors())
        ) from error


def _explain(problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    if problem["type"] == "extra_forbidden":
        return f"unknown field {name}{hint(name, list(Settings.model_fields))}"
    if name == "time":
        return f"time {problem['input']!r}: expected 24:00:00, 2-12:00 or minutes"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{name}: {re.sub(r'^string ', '', message)} (found {problem['input']!r})"
