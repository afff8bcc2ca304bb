"""What happens beside the steps: records, TensorBoard, the progress bar, saved weights.

Each callback has a state of its own; the loop calls them in order.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from pretrain.errors import UserError
from pretrain.files import json_text, write_text
from pretrain.progress import progress_bar
from pretrain.run_files import (
    BAD_STEPS,
    EVALUATIONS,
    METRICS,
    SELECTION,
    SELECTIONS,
    SET_ASIDE,
    TENSORBOARD,
)
from pretrain.selection.selector import Selection
from pretrain.tasks.base import Evaluation
from pretrain.training.health.step_guard import BadStep


@dataclass(frozen=True)
class StepRecord:
    """One line of metrics.jsonl; means over the steps since the line before.

    Attributes:
        step: steps done.
        tokens: input positions trained so far, over all ranks, padding included.
        loss: mean loss per target token of the last step's global batch, in nats.
        learning_rate: of the last step.
        grad_norm: global gradient norm of the last step before clipping.
        skipped_steps: bad steps since the line before; they updated nothing.
        step_seconds: wall time per step, evaluations and saving left out.
        selection_seconds: of these, what a step waited for its batch.
        tokens_per_second: over all ranks.
        model_flops_per_second: model FLOPs (pretrain.model.flops) of all ranks.
        mfu: share of the devices' peak; None where the peak is not known.
        loss_terms: the summands of the loss by name, where the objective has several.
    """

    step: int
    tokens: int
    loss: float
    learning_rate: float
    grad_norm: float
    skipped_steps: int
    step_seconds: float
    selection_seconds: float
    tokens_per_second: float
    model_flops_per_second: float
    mfu: float | None
    loss_terms: Mapping[str, float] = field(default_factory=dict)

    def values(self) -> dict[str, float]:
        """Every figure that is known by its name, each term of the loss as `loss_NAME`."""
        known = {name: value for name, value in vars(self).items() if name != "loss_terms"}
        if self.mfu is None:
            del known["mfu"]
        return known | {f"loss_{name}": value for name, value in self.loss_terms.items()}


class Callback:
    """Does nothing; override what is of use."""

    def on_selection(self, step: int, selection: Selection) -> None:
        """Before the first step, and whenever units are ordered anew: from `step` on."""

    def on_step(self, step: int) -> None:
        """After every step."""

    def on_log(self, record: StepRecord) -> None:
        """After every `run.log_every` steps and the last one."""

    def on_bad_steps(self, bad: Sequence[BadStep]) -> None:
        """With every log: steps since the one before that updated nothing."""

    def on_evaluation(self, step: int, tokens: int, evaluation: Evaluation) -> None:
        """After every evaluation."""

    def on_end(self, step: int) -> None:
        """After the last step and evaluation."""

    def on_stop(self, step: int) -> None:
        """After the last step of a run that was asked to stop before its end."""

    def close(self) -> None:
        """Always, also after an error."""


class Lines:
    """A file of JSON objects, one per line, each there as a whole or not at all.

    A disk that is full costs lines, not the run: it is said once.

    Args:
        path: of the file.
        last: lines of later steps are of a stretch that is trained again, or of one that the run
            went back from: they are moved to a file of the same name in SET_ASIDE.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: Path, last: int) -> None:
        self.path = path
        try:
            self._move_later(last)
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}") from error
        self._failing = False

    def _move_later(self, last: int) -> None:
        text = ""
        if self.path.exists():
            text = self.path.read_text(encoding="utf-8", errors="replace")
        kept: list[str] = []
        later: list[str] = []
        for line in text.splitlines():
            try:
                step = json.loads(line)["step"]
            except (ValueError, KeyError):
                continue
            (kept if step <= last else later).append(line + "\n")
        if later:
            aside = self.path.parent / SET_ASIDE
            aside.mkdir(exist_ok=True)
            with open(aside / self.path.name, "a", encoding="utf-8") as file:
                file.writelines(later)
        if "".join(kept) != text:
            write_text(self.path, "".join(kept))

    def add(self, values: dict[str, Any]) -> None:
        """Append a line and write it through."""
        end = self._file.tell()
        line = (json_text(values) + "\n").encode()
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._failing = False
        except OSError as error:
            os.truncate(self._file.fileno(), end)
            if not self._failing:
                _warn(
                    f"{self.path}: {error.strerror}; lines are missing until they can be written "
                    "again"
                )
            self._failing = True

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class JsonLines(Callback):
    """metrics.jsonl, bad_steps.jsonl, evaluation.jsonl and selection.jsonl; selection.json is the
    last selection.

    Args:
        directory: of the run.
        start: steps that the run goes on from.
        steps: of the run; where none is left, the last evaluation is made again.
    """

    def __init__(self, directory: Path, start: int = 0, steps: int | None = None) -> None:
        self._directory = directory
        evaluated = start - 1 if start == steps else start
        self._selections = Lines(directory / SELECTIONS, start - 1)
        self._metrics = Lines(directory / METRICS, start)
        self._bad_steps = Lines(directory / BAD_STEPS, start - 1)
        self._evaluations = Lines(directory / EVALUATIONS, evaluated)

    def on_selection(self, step: int, selection: Selection) -> None:
        self._selections.add({"step": step, **json.loads(selection.to_json())})
        try:
            write_text(self._directory / SELECTION, selection.to_json())
        except OSError as error:
            _warn(f"{self._directory / SELECTION}: {error.strerror}; it is not the latest")

    def on_log(self, record: StepRecord) -> None:
        self._metrics.add(record.values())

    def on_bad_steps(self, bad: Sequence[BadStep]) -> None:
        for step in bad:
            self._bad_steps.add(asdict(step))

    def on_evaluation(self, step: int, tokens: int, evaluation: Evaluation) -> None:
        self._evaluations.add({"step": step, "tokens": tokens, **evaluation.record()})
        if evaluation.headline in evaluation.not_finite:
            _warn(
                f"evaluation after step {step}: {', '.join(evaluation.not_finite)}: no finite "
                "number, null in the records; the model's weights or activations hold NaN or an "
                "infinity: go on from an earlier checkpoint (--checkpoint.resume) with a lower "
                "optimizer.learning_rate"
            )

    def close(self) -> None:
        for file in (self._selections, self._metrics, self._bad_steps, self._evaluations):
            file.close()


class TensorBoard(Callback):
    """TensorBoard events under `tensorboard/`, against the step. A disk that is full costs events,
    not the run.

    Args:
        directory: of the run.
        start: steps that the run goes on from. Events of later steps, of a start that was killed or
            of a stretch that the run went back from, are void from here on.
    """

    def __init__(self, directory: Path, start: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path = directory / TENSORBOARD
        self._writer: Any = None
        with self._writing():
            self._writer = SummaryWriter(str(self._path), purge_step=start + 1)

    def on_log(self, record: StepRecord) -> None:
        self._add(
            {f"train/{name}": value for name, value in record.values().items() if name != "step"},
            record.step,
        )

    def on_evaluation(self, step: int, tokens: int, evaluation: Evaluation) -> None:
        values = {f"evaluation/{name}": value for name, value in evaluation.figures.items()}
        self._add(values, step)
        with self._writing():
            if self._writer is not None:
                self._writer.flush()

    def _add(self, values: dict[str, Any], step: int) -> None:
        with self._writing():
            for name, value in values.items():
                if self._writer is not None and value is not None:
                    self._writer.add_scalar(name, value, step)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writer = None
            _warn(f"{self._path}: {error.strerror or error}; no more events until the next start")

    def close(self) -> None:
        with self._writing():
            if self._writer is not None:
                self._writer.close()


class ProgressBar(Callback):
    """Steps, loss, tokens/s and time left on the terminal."""

    def __init__(self, steps: int, label: str, start: int = 0) -> None:
        self._bar = progress_bar(steps, label, start=start)
        self._shown: dict[str, str] = {}

    def on_step(self, step: int) -> None:
        self._bar.update(step - self._bar.n)

    def on_log(self, record: StepRecord) -> None:
        self._show(loss=f"{record.loss:.4f}", tokens_per_s=f"{record.tokens_per_second:,.0f}")

    def on_evaluation(self, step: int, tokens: int, evaluation: Evaluation) -> None:
        self._show(**{evaluation.headline: f"{evaluation.value:.4f}"})

    def _show(self, **values: str) -> None:
        self._shown.update(values)
        self._bar.set_postfix(self._shown, refresh=False)

    def close(self) -> None:
        self._bar.close()


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)


def logged_grad_norm(value: float | torch.Tensor | None) -> float:
    """A gradient norm as a number; waits for the device."""
    return float("nan") if value is None else float(value)
