"""Putting the parts of a run together."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist

from pretrain.config import Config
from pretrain.data.batch import ASKED, field_layout, made_up_batch
from pretrain.data.loader import BatchFeed, BatchSource
from pretrain.data.skipped import passing, read_passed
from pretrain.distributed import topology as topologies
from pretrain.distributed.ranks import Ranks
from pretrain.distributed.topology import Topology
from pretrain.errors import ConfigError, UserError
from pretrain.model.flops import ModelCost, model_cost, peak_flops
from pretrain.objectives.base import Objective, objective_of
from pretrain.planning import Machine, make_plan
from pretrain.planning.report import plan_lines
from pretrain.run_files import CHECKPOINTS, SKIPPED, TABLE, evaluations
from pretrain.selection.schedule import SelectionSchedule
from pretrain.selection.selector import Selection
from pretrain.tasks.base import Evaluation, Task
from pretrain.training.checkpoint.lineage import told_aside
from pretrain.training.fingerprints import FINGERPRINTS, check_same_data, fingerprints
from pretrain.training.health.rollback import roll_back
from pretrain.training.health.step_guard import RollBackError
from pretrain.training.health.stop_check import check_together
from pretrain.training.health.stopping import STOPPED, Stopper
from pretrain.training.run_directory import RunDirectory
from pretrain.training.schedule import told_schedule, warm_up_warning
from pretrain.training.trackers.base import tracker_classes

if TYPE_CHECKING:
    from pretrain.training.callbacks import Callback
    from pretrain.training.checkpoint.resume import Found
    from pretrain.training.checkpoint.store import CheckpointStore
    from pretrain.training.engine import Engine
    from pretrain.training.health.heartbeat import Heartbeat


def run(config: Config, ranks: Ranks) -> int:
    """Train as configured and leave the run directory behind.

    Returns:
        The exit code: 0 for a run that is complete, STOPPED for one that was asked to stop and can
        go on from its last checkpoint.
    """
    # Refused before anything is read or written.
    objective_of(config)
    tracker_classes(config)
    task: Task = config.data.build(config)
    directory = RunDirectory(config.run.directory)
    stopper = Stopper(directory.path, config.training.max_minutes)
    with ExitStack() as held:
        if ranks.rank == 0:
            held.enter_context(directory.locked())
            directory.prepare(config)
            stopper.forget()
        topology = held.enter_context(topologies.start(config, ranks))
        from pretrain.training.health.heartbeat import Heartbeat

        heartbeat = Heartbeat(config.run, topology, directory.path)
        with heartbeat.beating():
            return _run(config, topology, heartbeat, task, directory, stopper)


@dataclass(frozen=True)
class Beginning:
    """What a run begins or goes on with; the same on every rank, fingerprints left out.

    Attributes:
        found: the checkpoint that it goes on from.
        vocabulary: rows of the model's embedding.
        own: whether that checkpoint is of this run's folder.
        warnings: of newer checkpoints that are not whole.
        fingerprints: of the task's data and tokenizer, on the first rank.
    """

    found: Found | None
    vocabulary: int
    own: bool
    warnings: list[str]
    fingerprints: dict[str, Any]

    @classmethod
    def of(
        cls, config: Config, store: CheckpointStore, task: Task, topology: Topology
    ) -> Beginning:
        """As `checkpoint.resume` says; every rank calls it.

        Raises:
            ConfigError: see :func:`pretrain.training.checkpoint.resume.find`, or the checkpoint has
                too few rows.
            UserError: the checkpoint is of other data.
        """
        from pretrain.training.checkpoint.resume import find

        found, warnings = find(store, config)
        prints = fingerprints(task, topology)
        if found and not found.imported:
            check_same_data(found.manifest.state, prints, found.folder)
        tokens = task.tokenizer.size
        vocabulary = found.vocabulary if found else config.vocabulary_size(tokens)
        check_vocabulary(vocabulary, tokens)
        own = found is not None and store.owns(found.folder)
        return cls(found, vocabulary, own, warnings, prints)

    def load(self, store: CheckpointStore, engine: Engine) -> list[Path]:
        """Put the checkpoint's state, if there is one, into the engine, and begin the line of
        checkpoints that come after it; every rank calls it. Returns those that are set aside."""
        if self.found is None:
            return store.begin()
        store.load(self.found.folder, self.found.manifest, engine)
        return store.begin(self.found.folder, self.found.manifest)

    @property
    def step(self) -> int:
        """Steps that are done."""
        return self.found.manifest.step if self.found else 0

    def facts(self, task: Task) -> dict[str, Any]:
        """What checkpoints say, so that the model can be used without the data."""
        return {
            "vocabulary": self.vocabulary,
            "tokenizer": task.tokenizer.fingerprint,
            FINGERPRINTS: self.fingerprints,
            **task.facts,
        }

    @property
    def state(self) -> dict[str, Any]:
        """Small things of the checkpoint."""
        return self.found.manifest.state if self.found else {}

    @property
    def table(self) -> Path | None:
        """The selector's table in it."""
        found = self.found
        return found.folder / TABLE if found and found.manifest.has_table else None


def _run(
    config: Config,
    topology: Topology,
    heartbeat: Heartbeat,
    task: Task,
    directory: RunDirectory,
    stopper: Stopper,
) -> int:
    """The run, on processes that have found each other and are watched."""
    # Imported once the backends are loaded quietly.
    from pretrain.inference.forward import Forward
    from pretrain.model.gpt import build
    from pretrain.training.checkpoint.callback import Checkpointer
    from pretrain.training.checkpoint.store import CheckpointStore
    from pretrain.training.engine import Engine
    from pretrain.training.loop import train
    from pretrain.training.profiling import Profiler

    settings, objective = config.training, objective_of(config)
    folder = directory.path / CHECKPOINTS
    store = CheckpointStore(folder, config.checkpoint, topology, config.run.timeout_seconds)
    beginning = Beginning.of(config, store, task, topology)
    if not beginning.found and topology.is_first_rank:
        directory.begin(config, task.text_tokenizer)
    found, start, vocabulary = beginning.found, beginning.step, beginning.vocabulary
    heartbeat.begin(start)
    skipped = read_passed(directory.path / SKIPPED)
    sampler = passing(task.sampler(beginning.state, skipped.batch_of(start)), skipped)
    schedule = SelectionSchedule(config, topology, task.fitter, sampler, beginning.table)
    selection = schedule.at(start).selection
    if found and not found.imported:
        check_selection(found.manifest.fingerprint, selection, found.folder)
    cost = model_cost(config.model, vocabulary, objective, config.asks_units)
    engine = Engine(config, topology, build(config, topology, vocabulary, objective))
    aside = beginning.load(store, engine)
    if found and topology.is_first_rank:
        directory.begin(config, task.text_tokenizer)
    batches = task.batches(schedule, sampler, topology)
    feed = _feed(config, topology, batches, start, objective, stopper)
    check = partial(check_together, stopper, topology)
    evaluator = task.evaluator(Forward(topology, engine.deepspeed.module, check), schedule)
    begun = time.perf_counter() - beginning.state.get("train_seconds", 0.0)
    callbacks: list[Callback] = [
        heartbeat,
        Checkpointer(config, store, engine, feed, schedule, stopper, beginning.facts(task), begun),
    ]
    if topology.is_first_rank:
        _announce(config, topology, task, cost, selection, beginning)
        _tell_of_going_on(config, beginning, [sampler.notice, told_aside(aside)])
        callbacks += _recorders(config, directory.path, start, selection.strategy)
    callbacks += Profiler.of(config.profile, topology, engine, directory.path)
    owes = owes_evaluation(config, topology, start, beginning.own)
    owed = schedule.at(start - 1) if owes else None
    again = command_again(config, directory.path)
    rolls_back: RollBackError | None = None
    evaluation = None
    try:
        with stopper.listening():
            evaluation = train(config, topology, engine, feed, evaluator, cost, callbacks, owed)
    except RollBackError as bad:
        rolls_back = bad
    finally:
        for callback in callbacks:
            callback.close()
    if evaluation is None:
        if topology.is_first_rank:
            stopped = _stopped(engine.steps, settings.steps, stopper.reason, again)
            print(roll_back(directory.path, rolls_back, again) if rolls_back else stopped)
        return STOPPED
    if topology.is_first_rank:
        told = {
            "train_seconds": time.perf_counter() - begun,
            "resumed_at": start,
            FINGERPRINTS: beginning.fingerprints,
            "fingerprint": schedule.current.selection.fingerprint,
            "peak_memory_bytes": peak_memory(topology.device),
        }
        _finish(config, topology, directory, cost, evaluation, told)
    return 0


def _feed(
    config: Config,
    topology: Topology,
    batches: BatchSource,
    start: int,
    objective: Objective,
    stopper: Stopper,
) -> BatchFeed:
    """Batches of the steps that are left, with what the objective asks for."""
    return BatchFeed(
        batches,
        topology,
        config.training.global_batch // topology.data.size,
        config.model.sequence_length,
        range(start, config.training.steps),
        stop=lambda: bool(stopper.reason),
        fields={
            **objective.fields,
            **({ASKED: torch.int64} if config.asks_units else {}),
        },
        per_token=objective.per_token,
        count=objective.count,
    )


def _announce(
    config: Config,
    topology: Topology,
    task: Task,
    cost: ModelCost,
    selection: Selection,
    beginning: Beginning,
) -> None:
    """Say what is about to be trained."""
    print(topology.describe())
    print(f"{cost.parameters:,} parameters; {task.summary}")
    print(selection.table(), flush=True)
    for message in beginning.warnings:
        print(f"warning: skipped {message}", file=sys.stderr, flush=True)
    if warning := warm_up_warning(config):
        print(f"warning: {warning}", file=sys.stderr, flush=True)


def _tell_of_going_on(config: Config, beginning: Beginning, notices: Sequence[str]) -> None:
    """Say from where a run goes on, and what follows from it."""
    found, start = beginning.found, beginning.step
    if found:
        said = [f"going on from {found.folder}, {start:,} steps done", *notices]
        said.append(told_schedule(config, found.manifest.config, start))
        print("\n".join(filter(None, said)), flush=True)


def _recorders(config: Config, directory: Path, start: int, label: str) -> Iterator[Callback]:
    """What the first rank writes and shows."""
    from pretrain.training.callbacks import JsonLines, ProgressBar, TensorBoard

    steps = config.training.steps
    yield JsonLines(directory, start, steps)
    if config.run.tensorboard:
        yield TensorBoard(directory, start)
    for tracker in tracker_classes(config):
        yield tracker(config, directory, start)
    if config.run.progress:
        yield ProgressBar(steps, label, start)


def _stopped(done: int, steps: int, reason: str, again: str) -> str:
    return f"stopped after {done:,} of {steps:,} steps ({reason}); {again} goes on from there"


def command_again(config: Config, directory: Path) -> str:
    """What is to be started to go on with a run that was stopped, in words."""
    resume = config.checkpoint.resume
    checkpoints = (directory / CHECKPOINTS).resolve()
    unless = ["--run.overwrite"] if config.run.overwrite else []
    if resume == "never" or Path(resume).resolve().parent == checkpoints:
        unless.append("--checkpoint.resume")
    return f"the same command{' without ' if unless else ''}{' and '.join(unless)}"


def _finish(
    config: Config,
    topology: Topology,
    directory: RunDirectory,
    cost: ModelCost,
    evaluation: Evaluation,
    result: dict[str, Any],
) -> None:
    """Write what the run came to, and say it.

    Args:
        result: what is only known to the run.
    """
    settings = config.training
    tokens = settings.steps * settings.global_batch * config.model.sequence_length
    directory.finish(
        {
            **evaluation.record(),
            "steps": settings.steps,
            "tokens": tokens,
            "model_flops": tokens * cost.flops_per_token,
            "parameters": cost.parameters,
            **result,
            "layout": topology.describe(),
        }
    )
    print(
        f"{evaluation} over {evaluation.examples:,} held-out examples after {settings.steps} "
        f"steps, {result['train_seconds']:.0f} s; results in {directory.path}"
    )


def peak_memory(device: torch.device) -> int | None:
    """Most bytes that this process has had: allocated on its GPU, or resident in memory where there
    is none (libraries included); None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(found[0]) if found else None


def owes_evaluation(config: Config, topology: Topology, start: int, own: bool) -> bool:
    """Whether a run that goes on after `start` steps is to be scored before the next: no step is
    left, or the evaluation after them was broken off. Every rank calls it; the first one looks.

    Args:
        own: whether it goes on from a checkpoint of its own folder.
    """
    every = config.training.evaluate_every
    if start == config.training.steps:
        return True
    if not own or not every or start == 0 or start % every:
        return False
    told = [False]
    if topology.is_first_rank:
        told = [all(line["step"] != start for line in evaluations(config.run.directory))]
    dist.broadcast_object_list(told, src=0)
    return told[0]


def check_vocabulary(rows: int, tokens: int) -> None:
    """Refuse a checkpoint whose embedding has no row for some tokens.

    Raises:
        ConfigError: names both sizes.
    """
    if rows < tokens:
        raise ConfigError(
            f"the checkpoint has {rows} rows of vocabulary, the tokenizer {tokens} tokens; import "
            "it again with this configuration, or choose another data.tokenizer"
        )


def check_selection(expected: str, selection: Selection, folder: Path) -> None:
    """Refuse to go on with targets that are selected by something else.

    Raises:
        UserError: the fingerprints differ.
    """
    if selection.fingerprint != expected:
        raise UserError(
            f"{folder} was trained with selection {expected}, and this is selection "
            f"{selection.fingerprint}: the training examples or selection.table have changed; put "
            "them back, or start over with --checkpoint.resume never --run.overwrite true"
        )


def dry_run(config: Config, ranks: Ranks) -> None:
    """Build everything, run one made-up batch, print what it takes. Trains and writes nothing."""
    task: Task = config.data.build(config)
    vocabulary = config.vocabulary_size(task.tokenizer.size)
    with topologies.start(config, ranks) as topology:
        from pretrain.model.gpt import build
        from pretrain.training.engine import Engine

        objective = objective_of(config)
        engine = Engine(config, topology, build(config, topology, vocabulary, objective))
        each = config.training.global_batch // topology.data.size, config.model.sequence_length
        batch = made_up_batch(*each, vocabulary, topology.data.size)
        layout = field_layout(objective.fields, objective.per_token, each)
        fields = {name: torch.ones(shape, dtype=dtype) for name, (dtype, shape) in layout.items()}
        count = topology.data.size * objective.count(batch.mask, fields)
        batch = replace(batch, fields=fields, target_tokens=count)
        started = time.perf_counter()
        result = engine.train_step(batch.to(topology.device), 0.0)
        loss = engine.mean_loss(result)
        seconds = time.perf_counter() - started
        if topology.is_first_rank:
            print("\n".join(_report(config, topology, vocabulary, loss, seconds)))


def _report(
    config: Config, topology: Topology, vocabulary: int, loss: float, seconds: float
) -> Sequence[str]:
    device = topology.device
    name = topologies.device_name(device)
    peak = peak_flops(name, config.training.precision)
    plan = make_plan(
        config,
        topology.ranks.world_size,
        vocabulary,
        None if peak is None else Machine(name, peak),
        "cuda" if device.type == "cuda" else "cpu",
    )
    lines = [
        config.to_yaml().rstrip(),
        "---",
        f"running      {topology.describe()}",
        *plan_lines(plan),
        f"made-up batch: loss {loss:.4f} (ln {vocabulary} = {np.log(vocabulary):.4f}), "
        f"first step {seconds:.2f} s",
    ]
    if device.type == "cuda":
        allocated = torch.cuda.max_memory_allocated(device)
        lines.insert(-1, f"peak         {allocated / 2**20:.1f} MiB allocated on rank 0's device")
    return lines
