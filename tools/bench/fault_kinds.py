"""What can happen to a run: each kind hurts one run once, and leaves it to be started again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pretrain.run_files import CHECKPOINTS, CONFIG, METRICS, SET_ASIDE, STOP
from pretrain.training.checkpoint.manifest import newest_first, step_of
from pretrain.training.health.stopping import STOPPED
from tools.bench.fault_runs import EVALUATE_EVERY, SAVE_EVERY, STEPS, Attempt, Layout, Person

Kind = Callable[[Path, Layout, Path, random.Random], None]
"""Called with the run's folder, its layout, the folder of logs, and dice."""

SMALL_DISK = 1_000_000
"""Bytes of a disk that is full after a checkpoint or two."""
FEW_FILES = 12
"""Files that fit a volume of metadata which is full in the middle of a start or after a checkpoint
or two."""
OTHER = 65534
"""Number of another user."""
REFUSED = 2


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
    _flip(dice.choice(files), dice)


def _flip(path: Path, dice: random.Random) -> None:
    content = bytearray(path.read_bytes())
    place = dice.randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def go_back(directory: Path, layout: Layout, logs: Path, dice: random.Random) -> None:
    """A run is told to go on from an older checkpoint of its own, and stopped again.

    Raises:
        RuntimeError: that checkpoint is gone, or the steps after it were not given up.
    """
    _stopped(directory, layout, logs, dice)
    goal = dice.choice(list(newest_first(directory / CHECKPOINTS))[1:])
    attempt = Attempt(directory, layout, logs, {"checkpoint.resume": goal})
    aside = directory / SET_ASIDE / METRICS
    attempt.until(aside.exists)
    attempt.until(lambda: attempt.steps > (step_of(goal) or 0) + 1)
    (directory / STOP).touch()
    codes = attempt.finish()
    if set(codes) - {0, STOPPED} or not goal.exists() or not aside.exists():
        raise RuntimeError(f"{goal}: going back to it ended with {codes}; see {logs}")


@contextmanager
def _refused(directory: Path, logs: Path) -> Iterator[list[Attempt]]:
    """Starts that are put into this list have to be refused, and leave all records as they are.

    Raises:
        RuntimeError: one is not, or does not.
    """

    def recorded() -> dict[str, int]:
        found = {str(path): path.stat().st_size for path in directory.glob("*.jsonl")}
        for folder in newest_first(directory / CHECKPOINTS):
            found |= {str(path): path.stat().st_size for path in folder.rglob("*")}
        return found

    before, attempts = recorded(), list[Attempt]()
    yield attempts
    codes = [attempt.finish()[0] for attempt in attempts]
    if codes != [REFUSED] * len(codes) or recorded() != before:
        raise RuntimeError(f"{directory}: was not refused ({codes}), or changed; see {logs}")


def spoil_all(directory: Path, layout: Layout, logs: Path, dice: random.Random) -> None:
    """A bit of every checkpoint is another, so that none can be used: a start is refused. Then one
    of them is put back, and those after it are not."""
    _stopped(directory, layout, logs, dice)
    folders = list(newest_first(directory / CHECKPOINTS))
    content = {}
    for folder in folders:
        path = dice.choice(sorted(folder.glob("rank-*")))
        content[folder] = path, path.read_bytes()
        _flip(path, dice)
    with _refused(directory, logs) as starts:
        starts.append(Attempt(directory, layout, logs))
    path, whole = content[dice.choice(folders)]
    path.write_bytes(whole)


def start_as_another(directory: Path, layout: Layout, logs: Path, dice: random.Random) -> None:
    """Checkpoints are of another user, who lets nobody else read them (umask 077): a start is
    refused, whether it sees their folders or not.

    Raises:
        PermissionError: files cannot be given to another user here.
    """
    if os.geteuid():
        raise PermissionError("files of another user: making them takes root")
    goal = dice.randrange(2 * SAVE_EVERY + 2, STEPS - 5)
    attempt = Attempt(directory, layout, logs, person=Person(umask=0o077))
    attempt.until(lambda: attempt.steps >= goal)
    (directory / STOP).touch()
    attempt.finish()
    checkpoints = directory / CHECKPOINTS
    seen = dice.random() < 0.5
    for path in (checkpoints, *checkpoints.rglob("*")):
        os.chown(path, OTHER, OTHER)
        if seen and path.is_dir():
            path.chmod(0o755)
    with _refused(directory, logs) as starts:
        starts.append(Attempt(directory, layout, logs, person=Person(ordinary=True)))


def start_twice(directory: Path, layout: Layout, logs: Path, dice: random.Random) -> None:
    """A second start while the first begins, trains or ends.

    Raises:
        RuntimeError: both were let in.
    """
    first = Attempt(directory, layout, logs)
    goal = dice.randrange(STEPS)
    if dice.random() < 0.5:
        first.until(lambda: first.steps >= goal)
    second = Attempt(directory, layout, logs)
    codes = [second.finish()[0], first.finish()[0]]
    if sorted(map(str, codes)) != ["0", str(REFUSED)]:
        raise RuntimeError(f"{directory}: of two starts at once, rank 0 ended with {codes}")


def fill_the_disk(directory: Path, layout: Layout, logs: Path, dice: random.Random) -> None:
    """The run's folder is on a small disk, which fills up; later there is room again.

    Raises:
        PermissionError: a disk cannot be mounted here.
    """
    size = SMALL_DISK + dice.randrange(SMALL_DISK)
    _on_a_small_disk(directory, layout, logs, f"size={size}", "size=1g")


def fill_the_metadata(directory: Path, layout: Layout, logs: Path, dice: random.Random) -> None:
    """The same with a disk that has room for few files, however small (inodes).

    Raises:
        PermissionError: a disk cannot be mounted here.
    """
    few = FEW_FILES + dice.randrange(3 * FEW_FILES)
    _on_a_small_disk(directory, layout, logs, f"nr_inodes={few}", "nr_inodes=10000")


def _on_a_small_disk(directory: Path, layout: Layout, logs: Path, small: str, large: str) -> None:
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", small, "tmpfs", str(directory)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        directory.rmdir()
        raise PermissionError("a small disk (tmpfs) cannot be mounted: that takes root")
    Attempt(directory, layout, logs).finish()
    subprocess.run(["mount", "-o", f"remount,{large}", str(directory)], check=True)


KINDS: dict[str, Kind] = {
    "kill -9 while fitting": kill_while_fitting,
    "kill -9 in a step": kill_in_a_step,
    "kill -9 while saving": kill_while_saving,
    "kill -9 while evaluating": kill_while_evaluating,
    "storm of SIGTERM and SIGUSR1": signals_in_a_storm,
    "truncated file": truncate_a_file,
    "flipped bit": flip_a_bit,
    "full disk": fill_the_disk,
    "full volume of metadata": fill_the_metadata,
    "going back to an older checkpoint": go_back,
    "unusable checkpoints": spoil_all,
    "another user's umask": start_as_another,
    "two starts at once": start_twice,
}
