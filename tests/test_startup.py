"""Help, and the refusal of what was given, come before anything that takes seconds to import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    "torch", "scipy", "numba", "megatron", "deepspeed", "transformers", "matplotlib", "sklearn",
    "pandas", "lightning", "accelerate", "tensorboard",
)  # fmt: skip
LOADS_AHEAD = {"tools.gpu.cells"}
"""Takes no options: another program starts it to import all there is before it is needed."""
BAD_CONFIGURATION = ("--training.stepz", "3")
PROGRAM = """
import runpy, sys

def ended(arguments):
    sys.argv = [{module!r}, *arguments]
    try:
        runpy.run_module({module!r}, run_name="__main__")
    except SystemExit as end:
        return end.code

print("ended", ended([*{command!r}, "--help"]), ended([*{command!r}, *{refused!r}]))
print("imported", *sorted(set({heavy!r}) & set(sys.modules)))
"""


def programs() -> list[str]:
    found = []
    for room in ("pretrain", "launcher", "tools"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if '__name__ == "__main__"' in path.read_text(encoding="utf-8"):
                parts = path.relative_to(ROOT).with_suffix("").parts
                found.append(".".join(part for part in parts if part != "__main__"))
    return found


def test_programs_are_found():
    assert {"pretrain.main", "launcher", "tools.plan", "tools.bench.startup"} <= set(programs())
    assert set(programs()) >= LOADS_AHEAD


@pytest.mark.parametrize(
    "command",
    [[module] for module in programs() if module not in LOADS_AHEAD] + [["launcher", "submit"]],
    ids=" ".join,
)
def test_help_and_refusals_import_nothing_heavy(command, tmp_path):
    module, *rest = command
    program = PROGRAM.format(module=module, command=rest, refused=BAD_CONFIGURATION, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *_, ended, imported = done.stdout.splitlines()
    assert ended == "ended 0 2", done.stderr
    assert imported == "imported"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        ["tools.plan", "--config", "configs/llama_7b.yaml", "--gpus", "32"],
        ["tools.inspect_selection", "--config", "configs/smoke/multiplication.yaml"],
    ],
    ids=lambda command: command[0],
)
def test_what_trains_nothing_imports_no_torch(command):
    program = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__")
except SystemExit as end:
    print("ended", end.code, "torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *command],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "ended 0 False"
