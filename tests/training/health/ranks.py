"""Ranks that do nothing but wait to be stopped, and then save for a second, for tests of what a
launcher does with a signal."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BIN = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
RANK = """\
import os, sys, time
from pathlib import Path
sys.path.insert(0, os.environ["PROGRAM"])
from pretrain.training.health.stopping import Stopper
run = Path(sys.argv[-1])
names = ("RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
rank = next((os.environ[name] for name in names if name in os.environ), "0")
stopper = Stopper(run)
with stopper.listening():
    (run / f"training-{rank}").write_text(str(os.getpid()))
    while not stopper.reason:
        time.sleep(0.05)
    time.sleep(1.0)
    (run / f"saved-{rank}").write_text(stopper.reason)
print("stopped", flush=True)
(run / f"code-{rank}").write_text("75")
sys.exit(75)
"""


def started(
    command: list[str], run: Path, variables: Mapping[str, str] = os.environ
) -> subprocess.Popen[bytes]:
    """Start ranks by `command`; they are of a session of their own."""
    program = shutil.which(command[0], path=BIN)
    assert program, f"{command[0]} comes with the project's environment"
    environment = {
        name: value for name, value in variables.items() if not name.startswith(("RANK", "WORLD"))
    } | {"PROGRAM": str(ROOT), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    (run / "rank.py").write_text(RANK)
    return subprocess.Popen(
        [program, *command[1:], str(run / "rank.py"), str(run)], env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        preexec_fn=hear_interrupts,
    )  # fmt: skip


def hear_interrupts() -> None:
    """A shell has what it starts in the background ignore SIGINT, tests and their children too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ended(
    run: Path, process: subprocess.Popen[bytes], ranks: int, *numbers: signal.Signals
) -> tuple[int, dict[str, str]]:
    """The launcher's exit code after these signals, and why ranks saved, by rank."""
    members = under_way(run, process, ranks)
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.2)
    return what_became(run, process, members)


def under_way(run: Path, process: subprocess.Popen[bytes], ranks: int) -> list[int]:
    """The ranks, once they train."""
    end = time.monotonic() + 120
    while len(list(run.glob("training-*"))) < ranks:
        assert process.poll() is None, process.communicate()[0].decode()
        assert time.monotonic() < end
        time.sleep(0.1)
    time.sleep(0.2)
    return [int(path.read_text()) for path in run.glob("training-*")]


def what_became(
    run: Path, process: subprocess.Popen[bytes], members: list[int]
) -> tuple[int, dict[str, str]]:
    """The launcher's exit code, and why ranks saved, by rank, once all of them have ended."""
    end = time.monotonic() + 120
    code = process.wait(60)
    assert process.stdout is not None
    process.stdout.close()  # as a terminal that is closed
    while any(alive(member) for member in members):
        assert time.monotonic() < end, "ranks train on"
        time.sleep(0.1)
    codes = len(list(run.glob("code-*")))
    saved = {path.name[6:]: path.read_text() for path in run.glob("saved-*")}
    assert codes == len(saved)
    return code, saved


def alive(process: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
