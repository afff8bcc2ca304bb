"""What can happen to a run: each kind hurts one run once, and leaves it to be started again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from pretrain.run_files import CHECKPOINTS, CONFIG, STOP
from pretrain.training.checkpoint.manifest import newest_first
from tools.bench.fault_runs import EVALUATE_EVERY, SAVE_EVERY, STEPS, Attempt, Layout

Kind = Callable[[Path, Layout, Path, random.Random], None]
"""Called with the run's folder, its layout, the folder of logs, and dice."""

SMALL_DISK = 1_000_000
"""Bytes of a disk that is full after a checkpoint or two."""


def _kill(attempt: Attempt, dice: random.Random) -> None:
    attempt.send(dice.randrange(len(attempt.ranks)), signal.SIGKILL)
    attempt.finish()


def kill_while_fitting(directory: Path, layout: Layout, logs: Path, dice: random.Random) -> None:
    """Between the start and the first step."""
    attempt = Attempt(directory, layout, logs)
    attempt.until((directory / CONFIG).exists)
    begun = time.monotonic()
    moment = dice.uniform(0.0, 2.0)
    attempt.until(lambda: time.monotonic() - begun > moment or attempt.steps > 0)
    _kill(attempt, dice)


def kill_in_a_step(directory: Path, layout: Layout, logs: Path, dice: random.Random) -> None:
    """At any time while it trains."""
    attempt = Attempt(directory, layout, logs)
    goal = dice.randrange(1, STEPS - 1)
    attempt.until(lambda: attempt.steps >= goal)
    time.sleep(dice.uniform(0.0, 0.03))
    _kill(attempt, dice)


def kill_while_saving(directory: Path, layout: Layout, logs: Path, dice: random.Random) -> None:
    """While a checkpoint is being written, or right after."""
    attempt = Attempt(directory, layout, logs)
    goal = SAVE_EVERY * dice.randrange(1, STEPS // SAVE_EVERY) - 1
    attempt.until(lambda: attempt.steps >= goal)
    attempt.until(lambda: attempt.saving)
    time.sleep(dice.uniform(0.0, 0.02))
    _kill(attempt, dice)


def kill_while_evaluating(directory: Path, layout: Layout, logs: Path, dice: random.Random) -> None:
    """In one of the evaluations on the way."""
    attempt = Attempt(directory, layout, logs)
    goal = EVALUATE_EVERY * dice.randrange(1, STEPS // EVALUATE_EVERY)
    attempt.until(lambda: attempt.steps >= goal)
    time.sleep(dice.uniform(0.0, 0.1))
    _kill(attempt, dice)


def signals_in_a_storm(directory: Path, layout: Layout, logs: Path, dice: random.Random) -> None:
    """SIGTERM and SIGUSR1, many, to any rank, also while it saves."""
    attempt = Attempt(directory, layout, logs)
    goal = dice.randrange(1, STEPS - 1)
    attempt.until(lambda: attempt.steps >= goal)
    for _ in range(20):
        number = dice.choice((signal.SIGTERM, signal.SIGUSR1))
        attempt.send(dice.randrange(len(attempt.ranks)), number)
        time.sleep(dice.uniform(0.0, 0.02))
    attempt.finish()


def _stopped(directory: Path, layout: Layout, logs: Path, dice: random.Random) -> list[Path]:
    """Files of the newest checkpoint of a run that was stopped once it had two."""
    attempt = Attempt(directory, layout, logs)
    goal = dice.randrange(2 * SAVE_EVERY + 2, STEPS - 5)
    attempt.until(lambda: attempt.steps >= goal)
    (directory / STOP).touch()
    attempt.finish()
    newest = next(newest_first(directory / CHECKPOINTS))
    return sorted(path for path in newest.rglob("*") if path.is_file())


def truncate_a_file(directory: Path, layout: Layout, logs: Path, dice: random.Random) -> None:
    """A file of the newest checkpoint loses its end."""
    path = dice.choice(_stopped(directory, layout, logs, dice))
    os.truncate(path, dice.randrange(path.stat().st_size))


def flip_a_bit(directory: Path, layout: Layout, logs: Path, dice: random.Random) -> None:
    """A bit of a weight file of the newest checkpoint is another."""
    files = [path for path in _stopped(directory, layout, logs, dice) if path.suffix != ".json"]
    path = dice.choice(files)
    content = bytearray(path.read_bytes())
    place = dice.randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def fill_the_disk(directory: Path, layout: Layout, logs: Path, dice: random.Random) -> None:
    """The run's folder is on a small disk, which fills up; later there is room again.

    Raises:
        PermissionError: a disk cannot be mounted here.
    """
    directory.mkdir()
    size = SMALL_DISK + dice.randrange(SMALL_DISK)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        directory.rmdir()
        raise PermissionError("a small disk (tmpfs) cannot be mounted: that takes root")
    Attempt(directory, layout, logs).finish()
    subprocess.run(["mount", "-o", "remount,size=1g", str(directory)], check=True)


KINDS: dict[str, Kind] = {
    "kill -9 while fitting": kill_while_fitting,
    "kill -9 in a step": kill_in_a_step,
    "kill -9 while saving": kill_while_saving,
    "kill -9 while evaluating": kill_while_evaluating,
    "storm of SIGTERM and SIGUSR1": signals_in_a_storm,
    "truncated file": truncate_a_file,
    "flipped bit": flip_a_bit,
    "full disk": fill_the_disk,
}
