"""Hands out tasks, gathers results and progress; it sits in the first process.

Every process asks and is answered at once: a task, the word to wait, or the word to stop. Tasks are
handed out one by one as processes become free, so a slow node takes fewer of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from pretrain.errors import UserError
from pretrain.progress import progress_bar
from tools.preprocessing.shards import Counts
from tools.preprocessing.work import Amount

EARLY = 10_000
"""Records that are taken as read when the share of bad ones is judged before the end."""


@dataclass(frozen=True)
class Task:
    """A call of one of the workshop's methods."""

    number: int
    method: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Phase:
    """Tasks that can be done at the same time.

    Args:
        total: bytes, for progress.
    """

    label: str
    total: int
    tasks: Sequence[Task]


@dataclass(frozen=True)
class Message:
    """What a process says. Every message is answered by what to do next.

    Args:
        kind: hello (with the fingerprint of its tokenizer), ask, progress, done or failed.
    """

    kind: str
    number: int = -1
    value: Any = None


@dataclass(frozen=True)
class Answer:
    """What a process is to do: the task, or wait, or stop."""

    task: Task | None = None
    stop: bool = False
    failed: bool = False


Link = Callable[[Message], Answer]
NextPhase = Callable[[list[Counts]], Phase]


@dataclass
class Desk:
    """The tasks of all phases.

    Args:
        fingerprint: of the tokenizer that every process must have.
        first: phase whose results are counts.
        second: makes the last phase out of the results of the first.
        bad_share: of all records; when there are more bad ones, the work stops.
    """

    fingerprint: str
    first: Phase
    second: NextPhase
    bad_share: float
    shown: bool = True
    failure: str | None = None
    results: list[Any] = field(default_factory=list)
    amount: Amount = field(default_factory=Amount)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._phases = 0
        self._begin(self.first)

    def answer(self, message: Message) -> Answer:
        """Take in what a process says, and say what it is to do. From any thread."""
        with self._lock:
            try:
                self._take(message)
            except UserError as error:
                self._fail(str(error))
            if self.failure is not None:
                return Answer(stop=True, failed=True)
            if message.kind == "progress":
                return Answer()
            if self._waiting:
                return Answer(self._waiting.pop())
            return Answer(stop=not self._open)

    def fail(self, why: str) -> None:
        """Let everyone stop."""
        with self._lock:
            self._fail(why)

    def close(self) -> None:
        """End the progress bar."""
        self._bar.close()

    def _fail(self, why: str) -> None:
        self.failure = self.failure or why

    def _begin(self, phase: Phase) -> None:
        self._phases += 1
        self._waiting = list(reversed(phase.tasks))
        self._open = len(phase.tasks)
        self.results = [None] * len(phase.tasks)
        self.amount = Amount()
        self._bar: tqdm = progress_bar(phase.total, phase.label, unit="B", shown=self.shown)
        self._bar.unit_scale = True

    def _take(self, message: Message) -> None:
        if message.kind == "hello" and message.value != self.fingerprint:
            raise UserError(
                f"a process read the tokenizer {message.value[:12]}, the first process "
                f"{self.fingerprint[:12]}; every node must see the same file"
            )
        if message.kind == "failed":
            raise UserError(message.value)
        if message.kind == "progress":
            self._advance(message.value)
        if message.kind == "done":
            self.results[message.number] = message.value
            self._open -= 1
            if not self._open and self._phases == 1:
                self._bar.close()
                self._begin(self.second(self.results))

    def _advance(self, amount: Amount) -> None:
        self.amount += amount
        seconds = self._bar.format_dict["elapsed"]
        if self.amount.documents:
            rate = self.amount.documents / max(seconds, 1e-9)
            self._bar.set_postfix_str(f"{rate:,.0f} documents/s", refresh=False)
        self._bar.update(amount.bytes)
        if self.amount.bad > self.bad_share * max(self.amount.records, EARLY):
            raise UserError(
                f"{self.amount.bad:,} of {self.amount.records:,} records so far are bad, more "
                f"than --bad-share {self.bad_share:g} allows"
            )


def refusing(why: str) -> Desk:
    """A desk that sends everyone home."""
    nothing = Phase("", 0, [])
    return Desk("", nothing, lambda _: nothing, 1.0, shown=False, failure=why)
