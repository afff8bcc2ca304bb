"""Going back to before a stretch of bad steps, to pass over its data."""

from __future__ import annotations

from pathlib import Path

from pretrain.data.skipped import Passed, Stretch, read_passed
from pretrain.errors import UserError
from pretrain.run_files import CHECKPOINTS, SKIPPED
from pretrain.training.checkpoint.lineage import PASSED_OVER, set_aside
from pretrain.training.checkpoint.manifest import complete, step_of
from pretrain.training.health.step_guard import RollBackError

ATTEMPTS = 3


def roll_back(directory: Path, bad: RollBackError, again: str = "the same command") -> str:
    """Have the run in `directory` go on from before the bad steps and pass over their batches; the
    first rank calls it, once no checkpoint is under way.

    Bad steps update nothing, so where no checkpoint is as old as the first of them, the oldest
    there is serves as well. Checkpoints after the one to go on from are set aside.

    Args:
        again: what goes on with the run, in words.

    Returns:
        What was done, for people.

    Raises:
        UserError: it was done ATTEMPTS times already from the same step, or cannot be written.
    """
    steps = {step_of(path) or 0: path for path in complete(directory / CHECKPOINTS)}
    older = [step for step in steps if step <= bad.first]
    goal = max(older) if older else min(steps, default=0)
    passed = read_passed(directory / SKIPPED)
    if passed.times_at(goal) >= ATTEMPTS:
        raise UserError(
            f"rolled back to step {goal} {ATTEMPTS} times, and steps {bad.first} to {bad.end - 1} "
            "are bad again: it is not the data. Lower optimizer.learning_rate, or look at the "
            f"steps before {goal}"
        )
    stretch = Stretch(goal, max(1, bad.end - goal))
    try:
        Passed((*passed.stretches, stretch)).save(directory / SKIPPED)
        set_aside(directory / CHECKPOINTS, goal, PASSED_OVER)
    except OSError as error:
        raise UserError(
            f"{error.filename}: {error.strerror}; the run is not rolled back"
        ) from error
    return (
        f"steps {bad.first} to {bad.end - 1} were bad: rolled back to step {goal}; {again} "
        f"goes on from there and passes over {stretch.batches} batches"
    )
