"""Who may fill a folder: one process, until it ends or is killed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pretrain import locks
from pretrain.errors import UserError
from pretrain.locks import Holder, locked

HOLD = """
import sys, time
from pathlib import Path
from pretrain.locks import locked
with locked(Path(sys.argv[1]), "in use by", "wait"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(path: Path, seconds: float = 60.0) -> subprocess.Popen:
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(locks, "SILENT_SECONDS", 1.0)


def test_a_living_holder_is_named_and_a_killed_one_does_not_block(tmp_path, impatient):
    path = tmp_path / "folder" / "lock"
    process = holder(path)
    with pytest.raises(UserError, match=rf"^in use by process {process.pid} on \S+, .*; wait$"):  # noqa: SIM117
        with locked(path, "in use by", "wait"):
            pass
    process.kill()
    process.wait()
    assert path.read_text()  # it had no time to clean up
    with locked(path, "in use by", "wait"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert path.read_text() == ""


def test_a_holder_that_is_about_to_end_is_waited_for(tmp_path):
    process = holder(tmp_path / "lock", 0.5)
    with locked(tmp_path / "lock", "in use by", "wait"):
        assert process.wait(10) == 0


def elsewhere(path: Path) -> None:
    """What a process on another machine wrote."""
    path.write_text(json.dumps({**vars(Holder.me()), "machine": "another", "host": "n7"}))


def test_another_machines_holder_that_is_silent_is_gone(tmp_path, impatient, capsys):
    elsewhere(tmp_path / "lock")
    started = time.monotonic()
    with locked(tmp_path / "lock", "in use by", "wait"):
        assert time.monotonic() - started >= 1.0
    assert "waiting up to 1 s for a sign of it" in capsys.readouterr().err


@pytest.mark.parametrize("locks_work", [True, False])
def test_another_machines_holder_that_gives_a_sign_of_life_is_named(
    tmp_path, impatient, monkeypatch, locks_work
):
    """On file systems that keep a lock to one machine, or have none."""
    if not locks_work:

        def none(*_):
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr("fcntl.lockf", none)
    path = tmp_path / "lock"
    elsewhere(path)
    renew = "import os, sys, time\nfor _ in range(100): os.utime(sys.argv[1]); time.sleep(0.1)"
    other = subprocess.Popen([sys.executable, "-c", renew, str(path)])
    try:
        with pytest.raises(UserError, match=r"in use by process \d+ on n7"):  # noqa: SIM117
            with locked(path, "in use by", "wait"):
                pass
    finally:
        other.kill()
        other.wait()


def test_the_holder_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "RENEW_SECONDS", 0.05)
    path = tmp_path / "lock"
    with locked(path, "in use by", "wait"):
        before = path.stat().st_mtime_ns
        until = time.monotonic() + 10
        while path.stat().st_mtime_ns == before:
            assert time.monotonic() < until
            time.sleep(0.01)
