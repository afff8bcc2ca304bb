"""What the launcher asks of a cluster's scheduler. Each scheduler is one folder that answers, and
one line in `SCHEDULERS`; nobody else knows its commands, its options or its words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launcher.settings import Settings
from pretrain.registry import load

SCHEDULERS = ("launcher.slurm.scheduler:Slurm",)
"""`module:Class` of each; the first is taken where none is installed."""

Phase = Literal["waiting", "running", "ended"]


@dataclass(frozen=True)
class Job:
    """What a scheduler says of a job.

    Attributes:
        number: as the scheduler numbers it; `12_3` for task 3 of array 12.
        state: in the scheduler's word.
        phase: what that comes to.
        reason: why it waits or ended; empty where none is given.
        nodes: list of nodes; empty before it starts.
        elapsed, limit: wall time used and allowed, as the scheduler writes them.
    """

    number: str
    state: str
    phase: Phase
    reason: str = ""
    nodes: str = ""
    elapsed: str = ""
    limit: str = ""

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.phase != "ended"


@dataclass(frozen=True)
class TrainingJob:
    """A job that trains one run, or an array whose tasks train one run each.

    Attributes:
        name: of the job.
        folder: of its script and output.
        program: folder of the program that it runs.
        config: the run's configuration file; of an array, its name in the folder of each run.
        runs: folders of the runs.
        tasks: indices of the runs that an array trains; empty for a single run.
        at_once: tasks that run at a time; None for no limit.
    """

    name: str
    folder: Path
    program: Path
    config: str
    runs: tuple[Path, ...]
    tasks: tuple[int, ...] = ()
    at_once: int | None = None


@dataclass(frozen=True)
class ReportJob:
    """A job that reports the runs of a sweep.

    Attributes:
        name: of the job.
        folder: of its script and output.
        program: folder of the program that it runs.
        arguments: of tools.compare_strategies.
    """

    name: str
    folder: Path
    program: Path
    arguments: tuple[str, ...]


class Scheduler(ABC):
    """A cluster's scheduler. What it refuses is a UserError with its own words in it."""

    @abstractmethod
    def available(self) -> bool:
        """Whether its commands are installed here."""

    @abstractmethod
    def cluster(self) -> str | None:
        """Name of this cluster; None where there is none."""

    @abstractmethod
    def node(self) -> str | None:
        """This node as the scheduler calls it; None outside of its jobs."""

    @abstractmethod
    def training_script(self, job: TrainingJob, settings: Settings) -> str:
        """The batch script of a training job."""

    @abstractmethod
    def report_script(self, job: ReportJob, settings: Settings) -> str:
        """The batch script of a report."""

    @abstractmethod
    def output(self, script: Path, number: str, task: int | None = None) -> Path:
        """File that a job of this script, or one task of it, writes its output to."""

    @abstractmethod
    def try_out(self, script: str) -> None:
        """Ask whether a batch script would be taken, without submitting it.

        Raises:
            UserError: it would not.
        """

    @abstractmethod
    def submit(
        self,
        script: Path,
        *,
        tasks: Sequence[int] = (),
        after: str = "",
        options: Sequence[str] = (),
    ) -> str:
        """Submit a batch script. Returns the job's number.

        Args:
            tasks: indices of an array, in place of those in the script.
            after: number of a job that has to end before, however it ends.
            options: more options of the scheduler's own command.

        Raises:
            UserError: it is refused.
        """

    @abstractmethod
    def cancel(self, number: str) -> None:
        """Cancel a job.

        Raises:
            UserError: it is refused.
        """

    @abstractmethod
    def jobs(self, number: str) -> list[Job]:
        """A job, or the tasks of an array; empty where it is not known (any more).

        Raises:
            UserError: the scheduler's commands are not here.
        """


def scheduler() -> Scheduler:
    """The scheduler of this machine."""
    found: list[Scheduler] = [load(entry)() for entry in SCHEDULERS]
    return next((each for each in found if each.available()), found[0])
