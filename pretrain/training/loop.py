"""The training loop: a page long, everything else is a callback."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from pretrain.config import Config
from pretrain.data.loader import BatchFeed
from pretrain.distributed.topology import Topology, device_name
from pretrain.model.flops import ModelCost, peak_flops
from pretrain.selection.selector import Selector
from pretrain.spans import span
from pretrain.tasks.base import Evaluation, Evaluator
from pretrain.training.callbacks import Callback, StepRecord, logged_grad_norm
from pretrain.training.engine import Engine
from pretrain.training.health.step_guard import BadSteps
from pretrain.training.health.stop_check import StoppedError
from pretrain.training.schedule import learning_rate


class Meter:
    """Turns wall time between two logged steps into rates."""

    def __init__(self, config: Config, topology: Topology, cost: ModelCost) -> None:
        self.tokens_per_step = config.training.global_batch * config.model.sequence_length
        self.flops_per_token = cost.flops_per_token
        peak = peak_flops(device_name(topology.device), config.training.precision)
        self.peak = None if peak is None else peak * topology.ranks.world_size
        self.restart()

    def restart(self) -> None:
        """Begin a new interval now."""
        self.started = time.perf_counter()
        self.steps = 0
        self.waited = 0.0

    def add(self, waited: float) -> None:
        """A step is done; `waited` seconds of it went by until its batch was there."""
        self.steps += 1
        self.waited += waited

    def record(
        self,
        step: int,
        loss: float,
        rate: float,
        grad_norm: float,
        skipped: int,
        loss_terms: Mapping[str, float] | None = None,
    ) -> StepRecord:
        """The interval's line; a new interval begins."""
        seconds = (time.perf_counter() - self.started) / self.steps
        tokens_per_second = self.tokens_per_step / seconds
        flops = tokens_per_second * self.flops_per_token
        record = StepRecord(
            step=step,
            tokens=step * self.tokens_per_step,
            loss=loss,
            learning_rate=rate,
            grad_norm=grad_norm,
            skipped_steps=skipped,
            step_seconds=seconds,
            selection_seconds=self.waited / self.steps,
            tokens_per_second=tokens_per_second,
            model_flops_per_second=flops,
            mfu=None if self.peak is None else flops / self.peak,
            loss_terms=loss_terms or {},
        )
        self.restart()
        return record


def train(
    config: Config,
    topology: Topology,
    engine: Engine,
    feed: BatchFeed,
    evaluator: Evaluator,
    cost: ModelCost,
    callbacks: Sequence[Callback],
    owed: Selector | None = None,
) -> Evaluation | None:
    """Run the steps that are left; returns the last evaluation, None for a run that was stopped.

    Args:
        owed: what to score the model by before the first step: where no step is left, or an
            evaluation is missing.

    Raises:
        UserError: too many steps in a row were bad.
        RollBackError: they were, and `training.on_bad_steps` says to go back.
    """
    settings, log_every = config.training, config.run.log_every
    meter = Meter(config, topology, cost)
    bad_steps = BadSteps(
        settings.max_bad_steps, topology.is_first_rank, settings.on_bad_steps == "roll_back"
    )
    evaluation: Evaluation | None = None
    selector: Selector | None = None
    if owed is not None:
        evaluation = _evaluate(evaluator, owed, callbacks, engine.steps, meter)
        if evaluation is None:
            return None
        meter.restart()
    for step, batch in feed:
        if batch.selector is not selector:
            selector = batch.selector
            for callback in callbacks:
                callback.on_selection(step, selector.selection)
        rate = learning_rate(step, config)
        with span("data"):
            batch = batch.to(topology.device)
        result = engine.train_step(batch, rate)
        meter.add(batch.selection_seconds)
        bad_steps.add(step, result.skipped)
        done = step + 1
        last = done == settings.steps
        if done % log_every == 0 or last:
            bad = bad_steps.read()
            norm = logged_grad_norm(result.grad_norm)
            loss, terms = engine.mean_loss(result), engine.mean_terms(result)
            record = meter.record(done, loss, rate, norm, len(bad), terms)
            for callback in callbacks:
                callback.on_log(record)
                callback.on_bad_steps(bad)
            bad_steps.check()
        paused = time.perf_counter()
        for callback in callbacks:
            callback.on_step(done)
        if last or (settings.evaluate_every and done % settings.evaluate_every == 0):
            evaluation = _evaluate(evaluator, batch.selector, callbacks, done, meter)
            if evaluation is None:
                return None
        if batch.stop and not last:
            _stop(callbacks, done)
            return None
        meter.started += time.perf_counter() - paused
    for callback in callbacks:
        callback.on_end(settings.steps)
    return evaluation


def _evaluate(
    evaluator: Evaluator,
    selector: Selector,
    callbacks: Sequence[Callback],
    done: int,
    meter: Meter,
) -> Evaluation | None:
    """Score the model after `done` steps; None, and the run is stopped, where it was asked to."""
    try:
        with span("evaluation"):
            evaluation = evaluator.run(selector)
    except StoppedError:
        _stop(callbacks, done)
        return None
    for callback in callbacks:
        callback.on_evaluation(done, done * meter.tokens_per_step, evaluation)
    return evaluation


def _stop(callbacks: Sequence[Callback], done: int) -> None:
    for callback in callbacks:
        callback.on_stop(done)
