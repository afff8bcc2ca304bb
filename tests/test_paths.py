"""A tilde is a home folder, wherever a path is given; no folder of that name is made."""

import argparse
import ast
import re
from pathlib import Path

import pytest

from launcher.settings import resolve
from pretrain.config import load_config, parse_arguments
from pretrain.errors import ConfigError
from pretrain.paths import path_argument, written_out

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "data,field",
    [
        ({"task": "text", "path": "~/x"}, "path"),
        ({"task": "text", "path": "a", "test_path": "~/x"}, "test_path"),
        ({"task": "text", "path": "a", "tokenizer": "~/x"}, "tokenizer"),
        ({"task": "multilabel", "path": "~/x"}, "path"),
    ],
)
def test_paths_of_data_begin_at_home(data, field, home):
    assert getattr(load_config(None, {"data": data}).data, field) == home / "x"


@pytest.mark.parametrize("blend", [["~/x:2"], [{"prefix": "~/x"}], ["~/x"]])
def test_prefixes_of_a_blend_begin_at_home(blend, home):
    data = load_config(None, {"data": {"task": "corpus", "tokenizer": "t", "blend": blend}}).data
    assert data.blend[0].prefix == home / "x"


def test_other_paths_of_the_configuration_begin_at_home(home):
    file = home / "c.yaml"
    file.write_text("run: {directory: ~/x}\nselection: {table: ~/t}\ncheckpoint: {resume: ~/r}\n")
    config, _ = parse_arguments(["--config", "~/c.yaml"], "test")
    assert (config.run.directory, config.selection.table) == (home / "x", home / "t")
    assert config.checkpoint.resume == str(home / "r")
    config, _ = parse_arguments(["--run.directory=~/y"], "test")
    assert config.run.directory == home / "y"


def test_paths_of_a_cluster_begin_at_home(home):
    given = {"container": "~/image.sif", "mounts": ["~/a"], "python": "~/bin/python"}
    settings = resolve(None, given)
    assert settings.container == str(home / "image.sif")
    assert settings.mounts == (str(home / "a"),)
    assert settings.python == str(home / "bin" / "python")


@pytest.mark.parametrize(
    "values,field",
    [
        ({"run": {"directory": "~nobody-of-that-name/x"}}, "run.directory"),
        ({"checkpoint": {"resume": "~nobody-of-that-name/x"}}, "checkpoint.resume"),
        ({"selection": {"table": "~nobody-of-that-name/x"}}, "selection.table"),
        ({"data": {"task": "text", "path": "~nobody-of-that-name/x"}}, "data.path"),
    ],
)
def test_the_home_of_nobody_is_refused(values, field):
    with pytest.raises(ConfigError) as caught:
        load_config(None, values)
    assert f"{field}: no home folder is known of the user nobody-of-that-name" in str(caught.value)
    assert "'~nobody-of-that-name/x'" in str(caught.value)


@pytest.mark.parametrize("text", ["$HOME/x", "runs/${USER}/a"])
def test_a_variable_is_refused(text):
    with pytest.raises(ConfigError, match=r"run\.directory: the variable \$.* is not replaced"):
        load_config(None, {"run": {"directory": text}})
    with pytest.raises(argparse.ArgumentTypeError, match=r"is not replaced here.*write the path"):
        path_argument(text)


def test_what_is_there_under_such_a_name_is_taken(home):
    (home / "$A").touch()
    assert path_argument("$A") == Path("$A")
    assert path_argument("./~x") == Path("./~x")


def test_other_paths_stay_as_they_are():
    for text in ("a/b", "/a/~b", "a$", "runs/$x", "$Ab", "a*.txt", ""):
        assert written_out(text) == text


def test_every_program_reads_its_paths_so():
    """Options of argparse that are paths go through one function."""
    for room in ("pretrain", "launcher", "tools"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.keyword)
                    and node.arg == "type"
                    and path.name != "wheels.py"
                ):
                    assert not re.fullmatch(r"(pathlib\.)?Path", ast.unparse(node.value)), path


def test_inputs_of_a_corpus_begin_at_home(home, capsys):
    from tools.preprocess_data import main

    (home / "t.json").write_text('{"kind":"characters","format":1,"tokens":["a"," "]}')
    (home / "a.jsonl").write_text('{"text": "a a"}\n')
    given = ["--input", "~/*.jsonl", "--tokenizer", "~/t.json", "--output", "~/corpora/a"]
    assert main(given) == 0
    assert (home / "corpora" / "a.bin").exists()
    assert not (home / "~").exists()
