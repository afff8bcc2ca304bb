"""What happens beside the steps: records, TensorBoard, the progress bar, saved weights.

Each callback has a state of its own; the loop calls them in order.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import torch

from pretrain.selection.selector import Selection
from pretrain.training.progress import progress_bar
from pretrain.training.run_directory import SELECTION, write_text
from pretrain.training.work import Evaluation


@dataclass(frozen=True)
class StepRecord:
    """One line of metrics.jsonl; means over the steps since the line before.

    Attributes:
        step: steps done.
        tokens: input positions trained so far, over all ranks, padding included.
        loss: mean loss per target token of the last step's global batch, in nats.
        learning_rate: of the last step.
        grad_norm: global gradient norm of the last step before clipping.
        skipped_steps: steps since the line before that updated nothing, since their gradients were
            not finite.
        step_seconds: wall time per step, evaluations and saving left out.
        selection_seconds: of these, what a step waited for its batch.
        tokens_per_second: over all ranks.
        model_flops_per_second: model FLOPs (pretrain.model.flops) of all ranks.
        mfu: share of the devices' peak; None where the peak is not known.
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


class Callback:
    """Does nothing; override what is of use."""

    def on_selection(self, step: int, selection: Selection) -> None:
        """Before the first step, and whenever units are ordered anew: from `step` on."""

    def on_step(self, step: int) -> None:
        """After every step."""

    def on_log(self, record: StepRecord) -> None:
        """After every `run.log_every` steps and the last one."""

    def on_evaluation(self, step: int, tokens: int, evaluation: Evaluation) -> None:
        """After every evaluation."""

    def on_end(self, step: int) -> None:
        """After the last step and evaluation."""

    def on_stop(self, step: int) -> None:
        """After the last step of a run that was asked to stop before its end."""

    def close(self) -> None:
        """Always, also after an error."""


class JsonLines(Callback):
    """metrics.jsonl, evaluation.jsonl and selection.jsonl, one object per line, written through at
    once; selection.json is the last selection.

    Args:
        directory: of the run.
        start: steps that the run goes on from; lines after them are of a stretch that is trained
            again, and go.
    """

    def __init__(self, directory: Path, start: int = 0) -> None:
        self._directory = directory
        self._selections = _continued(directory / "selection.jsonl", start - 1)
        self._metrics = _continued(directory / "metrics.jsonl", start)
        self._evaluations = _continued(directory / "evaluation.jsonl", start)

    def on_selection(self, step: int, selection: Selection) -> None:
        values = {"step": step, **json.loads(selection.to_json())}
        print(json.dumps(values), file=self._selections, flush=True)
        write_text(self._directory / SELECTION, selection.to_json())

    def on_log(self, record: StepRecord) -> None:
        values = asdict(record)
        if record.mfu is None:
            del values["mfu"]
        print(json.dumps(values), file=self._metrics, flush=True)

    def on_evaluation(self, step: int, tokens: int, evaluation: Evaluation) -> None:
        values = {"step": step, "tokens": tokens, **asdict(evaluation)}
        print(json.dumps(values), file=self._evaluations, flush=True)

    def close(self) -> None:
        self._selections.close()
        self._metrics.close()
        self._evaluations.close()


def _continued(path: Path, last: int) -> TextIO:
    """The file to append to, without lines of steps after `last` and without half a line."""
    kept: list[str] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                step = json.loads(line)["step"]
            except (ValueError, KeyError):
                continue
            if step <= last:
                kept.append(line + "\n")
    write_text(path, "".join(kept))
    return open(path, "a", encoding="utf-8")


class TensorBoard(Callback):
    """TensorBoard events under `tensorboard/`, against the step."""

    def __init__(self, directory: Path, start: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(
            str(directory / "tensorboard"), purge_step=start + 1 if start else None
        )

    def on_log(self, record: StepRecord) -> None:
        for name, value in asdict(record).items():
            if name != "step" and value is not None:
                self._writer.add_scalar(f"train/{name}", value, record.step)

    def on_evaluation(self, step: int, tokens: int, evaluation: Evaluation) -> None:
        for name, value in evaluation.metrics.items():
            self._writer.add_scalar(f"evaluation/{name}", value, step)
        for unit, accuracy in enumerate(evaluation.unit_accuracy):
            self._writer.add_scalar(f"evaluation/unit_{unit}", accuracy, step)

    def close(self) -> None:
        self._writer.close()


class ProgressBar(Callback):
    """Steps, loss, tokens/s and time left on the terminal."""

    def __init__(self, steps: int, label: str, start: int = 0) -> None:
        self._bar = progress_bar(steps, label)
        self._bar.update(start)
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


def logged_grad_norm(value: float | torch.Tensor | None) -> float:
    """A gradient norm as a number; waits for the device."""
    return float("nan") if value is None else float(value)
