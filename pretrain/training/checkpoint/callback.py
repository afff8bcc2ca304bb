"""When checkpoints are saved, and what is said when one could not be."""

from __future__ import annotations

import sys
import time
from typing import Any

from pretrain.config import Config
from pretrain.data.loader import BatchFeed
from pretrain.errors import UserError
from pretrain.optimizers.base import updates_of
from pretrain.selection.schedule import SelectionSchedule
from pretrain.spans import span
from pretrain.training.callbacks import Callback
from pretrain.training.checkpoint.manifest import Manifest
from pretrain.training.checkpoint.store import CheckpointStore
from pretrain.training.engine import Engine
from pretrain.training.health.stopping import Stopper


class Checkpointer(Callback):
    """Saves every `checkpoint.save_every` steps, and when the run ends or is stopped.

    Args:
        facts: what reading the model takes beside the configuration: rows of the vocabulary, the
            tokenizer's fingerprint, and what the task adds.
        begun: by time.perf_counter, when a run that was never interrupted would have begun.
    """

    def __init__(
        self,
        config: Config,
        store: CheckpointStore,
        engine: Engine,
        feed: BatchFeed,
        schedule: SelectionSchedule,
        stopper: Stopper,
        facts: dict[str, Any],
        begun: float,
    ) -> None:
        self.config = config
        self.store = store
        self.engine = engine
        self.feed = feed
        self.schedule = schedule
        self.stopper = stopper
        self.facts = facts
        self.begun = begun

    def on_step(self, step: int) -> None:
        self._report()
        every = self.config.checkpoint.save_every
        if every and step % every == 0:
            self.save(step)

    def on_stop(self, step: int) -> None:
        if self.store.saved_at != step:
            self.save(step)
        self.store.wait()
        self._report()

    def on_end(self, step: int) -> None:
        """Save the last one.

        Raises:
            UserError: it could not be saved: without it the run is not complete.
        """
        if self.config.checkpoint.save_final and self.store.saved_at != step:
            self.save(step)
        self.store.wait()
        if self._report() == step and self.config.checkpoint.save_final:
            raise UserError(
                f"step {step}, the last, is done, and its checkpoint could not be saved: the run "
                "is not complete. Make room; the same command goes on from the last checkpoint"
            )

    def close(self) -> None:
        self.store.wait()

    def save(self, step: int) -> None:
        """Begin a checkpoint of the state after `step` steps; every rank calls it."""
        training = self.config.training
        selection = self.schedule.at(step).selection
        manifest = Manifest(
            step=step,
            tokens=step * training.global_batch * self.config.model.sequence_length,
            updates=updates_of(self.engine.built),
            layout=self.engine.topology.describe(),
            fingerprint=selection.fingerprint,
            config=self.config.model_dump(mode="json"),
            finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            state={
                **self.facts,
                "train_seconds": round(time.perf_counter() - self.begun, 3),
                "selection": {
                    "strategy": selection.strategy,
                    "order": selection.order,
                    "unit_names": selection.unit_names,
                },
                **self.schedule.sampler.state(step),
                **self.engine.small_state(),
            },
        )
        if not self.config.selection.refresh_every:
            with span("saving"):
                self.store.save(self.engine, manifest, None)
            return
        with span("saving"), self.feed.quiet():
            self.store.save(self.engine, manifest, self.schedule.save)

    def _report(self) -> int | None:
        """Say why a checkpoint could not be saved; its step."""
        problem = self.store.problem()
        if problem is None:
            return None
        stops = self.config.checkpoint.on_error == "stop"
        print(
            f"{'error' if stops else 'warning'}: the checkpoint after step {problem.step} is not "
            f"saved: {problem.message}; those before it are as they were",
            file=sys.stderr,
            flush=True,
        )
        if stops:
            self.stopper.ask(f"the checkpoint after step {problem.step} could not be saved")
        return problem.step
