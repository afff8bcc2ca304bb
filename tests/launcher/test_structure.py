"""How the launcher's code is laid out: no circle of imports, and one folder that knows SLURM."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from launcher import scheduler as schedulers
from launcher.__main__ import main
from launcher.scheduler import Scheduler

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in (ROOT / "launcher").rglob("*.py")
}
SLURM = re.compile(r"(?<!\.)\b(sbatch|scancel|scontrol|sacct|squeue|srun)\b|SLURM_|SLURMD_|#SBATCH")


def imported(path: Path) -> set[str]:
    """Modules of the launcher that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & set(MODULES)


def test_modules_do_not_import_each_other_in_a_circle():
    order = list(
        TopologicalSorter({name: imported(MODULES[name]) for name in MODULES}).static_order()
    )
    assert set(order) == set(MODULES)


def test_folders_do_not_import_each_other_in_a_circle():
    graph: dict[str, set[str]] = {}

    def room(module: str) -> str:
        """The folder of a module; a module beside the folders is one by itself."""
        return ".".join(module.split(".")[:2])

    for name, path in MODULES.items():
        graph.setdefault(room(name), set()).update(map(room, imported(path)))
    without_own = {room: others - {room, "launcher.__init__"} for room, others in graph.items()}
    assert set(TopologicalSorter(without_own).static_order()) >= set(without_own)


def test_slurm_s_commands_and_variables_are_named_in_its_folder_only():
    # What users write down: names of options, and words of their help.
    allowed = {"launcher.settings", "launcher.commands.submit", "launcher.commands.resubmit"}
    for name, path in MODULES.items():
        if name.startswith("launcher.slurm.") or name in allowed:
            continue
        code = [
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and "\n" not in node.value
        ]
        assert [text for text in code if SLURM.search(text)] == [], name


class Paper(Scheduler):
    """A scheduler that writes down what it is asked."""

    submitted: list[str] = []  # noqa: RUF012

    def available(self):
        return True

    def cluster(self):
        return "desk"

    def node(self):
        return None

    def training_script(self, job, settings):
        return f"train {job.runs[0]} with {job.config} on {settings.ranks}\n"

    def report_script(self, job, settings):
        return "report\n"

    def output(self, script, number, task=None):
        return script.with_name(f"{number}.txt")

    def try_out(self, script):
        self.submitted.append(f"tried {script.strip()}")

    def submit(self, script, *, tasks=(), after="", options=()):
        self.submitted.append(script.read_text().strip())
        return "p1"

    def cancel(self, number):
        raise AssertionError

    def jobs(self, number):
        return []


def test_another_scheduler_is_one_class_and_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(schedulers, "SCHEDULERS", (f"{__name__}:Paper",))
    monkeypatch.setattr(schedulers, "load", lambda entry: Paper)
    monkeypatch.setattr(Paper, "submitted", [])
    assert main(["submit", "--run.directory", "runs/a", "--training.steps", "4"]) == 0
    assert Paper.submitted == [
        "tried train runs/a with runs/a/slurm/config.yaml on 1",
        "train runs/a with runs/a/slurm/config.yaml on 1",
    ]
    assert main(["status", "runs/a"]) == 0
    said = capsys.readouterr().out
    assert "job p1\n" in said
    assert "job         p1, not known to the scheduler (any more)" in said


@pytest.mark.parametrize("entry", schedulers.SCHEDULERS)
def test_every_scheduler_that_is_listed_is_there(entry):
    from pretrain.registry import load

    assert isinstance(load(entry)(), Scheduler)
