"""How the code is laid out: which way imports point, and that no room grows without end."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from pretrain import registry, run_files

ROOT = Path(__file__).resolve().parent.parent
ORDER = (
    ("console", "errors", "paths", "spans", "ragged", "registry", "products"),
    ("compiled", "files", "imports"),
    ("locks", "progress", "run_files"),
    ("config",),
    ("distributed",),
    ("selection",),
    ("data",),
    ("objectives", "optimizers"),
    ("model",),
    ("inference",),
    ("tasks",),
    ("planning",),
    ("training",),
    ("main",),
    ("testing",),
)
"""Rooms of `pretrain`; a room imports itself and those of the lines above it."""
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
LONGEST_FILE, LONGEST_FUNCTION = 500, 80
PACKAGES = ("pretrain", "launcher", "tools")


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sources(*PACKAGES)}


def imported(path: Path) -> Iterator[str]:
    """Modules of this project that a file imports anywhere, by their full names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in inside]
        else:
            continue
        yield from (name for name in names if name in MODULES)


def room_of(module: str) -> str:
    return module.split(".")[1]


def test_every_room_has_its_place():
    rooms = {room_of(module) for module in MODULES if module.startswith("pretrain.")}

    assert rooms == set(LEVEL)


@pytest.mark.parametrize("path", sources("pretrain"), ids=module_of)
def test_imports_point_one_way(path):
    module = module_of(path)
    if module == "pretrain":
        return
    room = room_of(module)

    for name in imported(path):
        assert name.startswith("pretrain."), f"{module} imports {name}"
        other = room_of(name)
        assert other == room or LEVEL[other] < LEVEL[room], f"{module} imports {name}"


def test_tools_do_not_import_the_launcher():
    for path in sources("tools"):
        found = [name for name in imported(path) if name.startswith("launcher.")]
        assert not found, f"{module_of(path)} imports {found[0]}"


def test_no_modules_import_each_other_in_a_circle():
    arrows = {module: set(imported(path)) - {module} for module, path in MODULES.items()}

    # A circle is a CycleError that names it.
    assert set(TopologicalSorter(arrows).static_order()) == set(MODULES)


@pytest.mark.parametrize("path", sources(*PACKAGES), ids=module_of)
def test_files_and_functions_stay_short(path):
    text = path.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= LONGEST_FUNCTION, f"{node.name} has {lines} lines"


def strings(path: Path) -> Iterator[ast.Constant]:
    """String constants of a file, docstrings left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {
        id(statement.value) for statement in ast.walk(tree) if isinstance(statement, ast.Expr)
    }
    for node in ast.walk(tree):
        is_string = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_string and id(node) not in documentation:
            yield node


NAMES_OF_OTHER_THINGS = {"text", "corpus"}
"""Tasks whose names are words of their own: a field of a record, the origin of a table."""


def test_only_tasks_and_the_registry_name_a_task():
    names = set(registry.TASKS) - NAMES_OF_OTHER_THINGS
    compared = re.compile(r"\.task\s*(==|!=|in|not in)\b")

    for path in sources(*PACKAGES):
        where = path.relative_to(ROOT).parts
        if where[:2] in (("pretrain", "tasks"), ("pretrain", "registry.py")):
            continue
        found = [node for node in strings(path) if node.value in names]
        assert not found, f"{path}:{found[0].lineno} names task {found[0].value}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            assert not compared.search(line), f"{path}:{number} asks for a task's name: {line}"


def test_names_in_a_runs_folder_stand_in_one_place():
    names = {
        run_files.BAD_STEPS,
        run_files.EVALUATIONS,
        run_files.METRICS,
        run_files.RANKS,
        run_files.RESULT,
        run_files.SELECTION,
        run_files.SELECTIONS,
        run_files.SKIPPED,
    }

    for path in sources(*PACKAGES):
        if path != ROOT / "pretrain" / "run_files.py":
            found = [node for node in strings(path) if node.value in names]
            assert not found, f"{path}:{found[0].lineno} spells {found[0].value}"


UNCHECKED_JSON = {
    "pretrain.files",  # json_text itself
    "pretrain.data.jsonl",  # allow_nan=False
    # Text, numbers that are whole, or what is hashed, whose spelling must not change.
    "pretrain.data.records", "pretrain.data.tokenizers.base", "pretrain.data.tokenizers.records",
    "pretrain.data.tokenizers.vocabulary",
    "pretrain.distributed.meeting", "pretrain.locks", "pretrain.selection.fitter",
    "pretrain.selection.selector", "pretrain.selection.table.manifest",
    "pretrain.selection.table.store", "pretrain.tasks.presentation", "pretrain.tasks.text.corpus",
    "pretrain.training.checkpoint.store", "pretrain.training.checkpoint.tensor_files",
    "pretrain.training.health.heartbeat", "pretrain.training.health.liveness",
    "tools.hf.tokenizer_json",
}  # fmt: skip
"""Where json.dumps, which writes NaN, may be called: no figure is written there."""


def test_figures_are_written_as_strict_json():
    calls = {
        module
        for module, path in MODULES.items()
        if re.search(r"\bjson\.dumps?\(", path.read_text(encoding="utf-8"))
    }

    assert calls <= UNCHECKED_JSON, "use pretrain.files.json_text"
