"""Compiled functions run whatever can be written, and keep what was compiled where they can."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numba
import pytest

from pretrain import compiled as module
from pretrain.compiled import compiled

ROOT = Path(__file__).resolve().parent.parent
ADD = """
from pretrain.compiled import compiled

@compiled
def add(a, b):
    return a + b

print(add(1, 2), add.stats.cache_path, sum(add.stats.cache_hits.values()))
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A file whose folder has no place for a cache: a file stands where it would be."""
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "__pycache__").touch()
    (folder / "add.py").write_text(textwrap.dedent(ADD))
    return folder


def add(program: Path, temporary: Path) -> subprocess.CompletedProcess[str]:
    """Run it without a home folder."""
    unset = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "TMP", "TEMP")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"HOME": os.devnull, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "add.py"],
        cwd=program, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_without_a_place_beside_the_program_or_at_home_a_temporary_folder_holds_the_cache(
    program, tmp_path
):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    first, second = add(program, temporary), add(program, temporary)

    folder = temporary / f"mifirst-{os.getuid()}"
    assert first.stdout.startswith(f"3 {folder / 'numba'}"), first.stderr
    assert first.stderr.count("\n") == 1
    assert str(folder / "numba") in first.stderr
    assert folder.stat().st_mode & 0o777 == 0o700
    assert second.stdout.endswith(" 1\n"), "compiled again"
    assert second.stderr == ""


def test_a_temporary_folder_that_others_can_write_is_not_used(program, tmp_path):
    folder = tmp_path / f"mifirst-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    done = add(program, tmp_path)

    assert done.stdout.startswith("3 None"), done.stderr
    assert not list(folder.iterdir())


@pytest.mark.parametrize("method", ["_save_index", "_load_index"])
def test_a_cache_that_fails_costs_no_run(method, monkeypatch, tmp_path):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, method, full)

    @compiled
    def double(value: int) -> int:
        return 2 * value

    assert isinstance(double._cache, module._Kept)
    assert double(4) == 8
