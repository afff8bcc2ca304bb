"""A folder of wheels is complete, or what it lacks is named."""

import subprocess
import zipfile

import pytest

from tools.gpu.report import ROOT
from tools.gpu.wheels import faults, main


def wheel(folder, name, version="1.0", tag="py3-none-any", needs=()):
    path = folder / f"{name}-{version}-{tag}.whl"
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {n}" for n in needs)]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(lines) + "\n")
    return path


def test_a_complete_folder_is_listed(tmp_path, capsys):
    wheel(tmp_path, "pydantic", needs=["typing_extensions>=1", "numpy", 'dev-only; extra == "x"'])
    wheel(tmp_path, "typing_extensions", "4.0")
    wheel(tmp_path, "core", tag="cp312-cp312-manylinux_2_17_x86_64")
    wheel(tmp_path, "stable", tag="cp39-abi3-manylinux_2_17_x86_64")
    assert main([str(tmp_path), "--python", "3.12", "--present", "numpy"]) == 0
    assert "core-1.0-cp312" in capsys.readouterr().out


@pytest.mark.parametrize(
    "made,said",
    [
        ([("a", {"needs": ["b>=1"]})], "a needs b>=1, which is neither here nor present"),
        ([("a", {"needs": ["b>=2"]}), ("b", {})], "a needs b>=2, here is 1.0"),
        ([("a", {}), ("a", {"version": "2.0"})], "a is there twice: 1.0 and 2.0"),
        ([("a", {"tag": "cp311-cp311-linux_x86_64"})], "is not for Python 3.12"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, made, said):
    wheels = [wheel(tmp_path, name, **settings) for name, settings in made]
    (fault,) = faults(wheels, "3.12", [])
    assert said in fault


def test_an_empty_folder_is_refused(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert "holds no wheels" in capsys.readouterr().err


@pytest.mark.parametrize(
    "script,options,said",
    [
        ("bundle.sh", ["--nothing", "x"], "error: --nothing: expected"),
        ("bundle.sh", ["--out"], "error: --out: expected a value"),
        ("prove.sh", ["--wheels", "nowhere"], "error: --wheels nowhere: expected a folder"),
    ],
)
def test_scripts_refuse_what_they_do_not_know(script, options, said):
    command = ["bash", f"tools/gpu/{script}", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
