"""The section `data`: a class for each task, found by its name in the registry."""

import subprocess
import sys

import pytest
import yaml

from pretrain import registry
from pretrain.config import Config, DataSection, load_config, parse_arguments
from pretrain.config.command_line import options_class
from pretrain.config.data import section_of
from pretrain.errors import ConfigError
from pretrain.tasks.arithmetic.config import ArithmeticData
from pretrain.tasks.multilabel.config import MultilabelData
from pretrain.tasks.records.config import RecordsData
from pretrain.tasks.text.config import CorpusData, TextData

TOY = "tests.config.toy:ToyData"
CORPUS = {"task": "corpus", "blend": ["a", "b:2"], "tokenizer": "t.model"}
EVERY_FIELD = {
    "operation": "multiplication", "digits": 2, "digits_second": None, "examples": None,
    "path": None, "test_path": None, "document_gap": 1, "blend": None, "split": "98,1,1",
    "evaluate_on": "validation", "document_mask": True, "tokenizer": None, "vocabulary": 8192,
    "minimum_documents": 50, "fields": None, "test_fraction": 0.1, "split_seed": 0,
}  # fmt: skip
"""Defaults of all tasks, as runs wrote them into config.yaml when there was one class for all."""


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TASKS, "toy", TOY)


def refusal(data: dict) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(None, {"data": data})
    return str(caught.value)


@pytest.mark.parametrize(
    "data,cls",
    [
        ({}, ArithmeticData),
        ({"task": "arithmetic", "digits": 3}, ArithmeticData),
        ({"task": "multilabel", "path": "a.jsonl"}, MultilabelData),
        ({"task": "text", "path": "a.txt"}, TextData),
        (CORPUS, CorpusData),
    ],
)
def test_each_task_has_a_class_and_is_written_as_it_was_read(data, cls):
    config = load_config(None, {"data": data})
    assert type(config.data) is cls
    again = load_config(None, yaml.safe_load(config.to_yaml()))
    assert again == config
    assert set(config.model_dump()["data"]) == set(cls.model_fields)


@pytest.mark.parametrize(
    "data",
    [
        {"task": "arithmetic", "digits": 3},
        {"task": "multilabel", "path": "a.jsonl", "minimum_documents": 20},
        {"task": "text", "path": "a.txt", "document_gap": 2},
        CORPUS,
    ],
)
def test_the_file_of_a_run_that_wrote_the_fields_of_all_tasks_is_read(data):
    assert load_config(None, {"data": EVERY_FIELD | data}) == load_config(None, {"data": data})


@pytest.mark.parametrize(
    "data,message",
    [
        ({"digits": 2, "path": "a"}, "data.path a is of no use to data.task arithmetic; leave"),
        (
            {"task": "text", "path": "a", "digits": "3"},
            "data.digits 3 is of no use to data.task text; leave it out",
        ),
        ({"task": "text", "path": "a", "digits": "many"}, "data.digits many is of no use to data"),
        (CORPUS | {"split_seed": 1}, "data.split_seed 1 is of no use to data.task corpus"),
        ({"task": "text"}, "data.task text needs data.path, the file that holds the training"),
        (
            {"task": "texts"},
            "data.task texts is not known; use arithmetic, multilabel, records, text, co",
        ),
        ({"task": "text", "path": "a", "pathz": "b"}, "data.pathz; did you mean data.path?"),
        (CORPUS | {"blend": [{"prefx": "a"}]}, "data.blend.0.prefx; did you mean data.blend.0.pr"),
        (
            {"task": "text", "path": "a", "fields": "text=b,labels=c"},
            "data.fields 'text=b,labels=c': expected each of text at most once, for example text=C",
        ),
        ({"task": "text", "path": "a", "fields": "body"}, "data.fields 'body': expected each of"),
        ({"digits": 0}, "data.digits: input should be greater than or equal to 1 (found 0)"),
    ],
)
def test_what_a_task_cannot_use_is_refused(data, message):
    assert message in refusal(data)


@pytest.mark.parametrize(
    "given", ["labels=tags,text=the body", {"text": "the body", "labels": "tags"}]
)
def test_columns_have_names(given):
    config = load_config(None, {"data": {"task": "multilabel", "path": "a.csv", "fields": given}})
    data = MultilabelData.of(load_config(None, yaml.safe_load(config.to_yaml())))
    assert data.field_names == {"text": "the body", "labels": "tags"}
    text = load_config(None, {"data": {"task": "text", "path": "a.csv"}})
    assert TextData.of(text).field_names == {"text": "text"}


def test_no_section_is_no_mapping():
    assert "data: input should be a valid dictionary" in refusal("text")  # type: ignore[arg-type]


def test_another_tasks_field_at_its_default_is_dropped_as_text_too():
    config = load_config(None, {"data": {"task": "text", "path": "a", "digits": "2"}})
    assert "digits" not in config.model_dump()["data"]


def test_problems_of_data_are_named_beside_others():
    with pytest.raises(ConfigError) as caught:
        load_config(None, {"data": {"digits": 0}, "training": {"steps": 0}})
    assert all(name in str(caught.value) for name in ("data.digits", "training.steps"))


def test_every_field_of_every_task_is_an_option_with_its_help(capsys):
    fields = options_class().model_fields["data"].annotation.model_fields
    own = {*RecordsData.model_fields, *MultilabelData.model_fields}
    assert {"task", *EVERY_FIELD, *own} == set(fields)
    with pytest.raises(SystemExit):
        parse_arguments(["--help"], "test")
    printed = " ".join(capsys.readouterr().out.split())
    assert "--data.task {arithmetic,multilabel,records,text,corpus}" in printed
    assert "Digits of each operand, zero-padded. (arithmetic) (default: 2)" in printed
    assert "corpus (a blend of what tools.preprocess_data wrote)" in printed


def test_options_of_a_task_reach_it(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("data: {task: text, path: a.txt}\n")
    config, _ = parse_arguments(["--config", str(file), "--data.document_gap", "2"], "test")
    assert isinstance(config.data, TextData)
    assert config.data.document_gap == 2
    config, _ = parse_arguments(["--data.task", "arithmetic", "--data.digits", "3"], "test")
    assert isinstance(config.data, ArithmeticData)
    assert config.data.digits == 3
    given = ["--config", str(file), "--data.task", "multilabel"]
    config, _ = parse_arguments([*given, "--data.fields", "text=a,labels=b"], "test")
    assert MultilabelData.of(config).field_names == {"text": "a", "labels": "b"}
    given = ["--data.task", "corpus", "--data.blend", "[a:0.7, b]", "--data.tokenizer", "t.model"]
    config, _ = parse_arguments(given, "test")
    assert [source.weight for source in CorpusData.of(config).blend or ()] == [0.7, 1.0]


@pytest.mark.usefixtures("toy")
def test_a_task_that_is_registered_later_is_one_like_the_others(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("data: {task: toy, words: 5}\nselection: {strategy: reverse}\n")
    config = load_config(file)
    assert config.data.title() == "5 words"
    assert load_config(None, yaml.safe_load(config.to_yaml())) == config
    given = ["--data.task", "toy", "--data.words", "4", "--selection.strategy", "ntp"]
    assert parse_arguments(given, "test")[0].data.title() == "4 words"
    with pytest.raises(ConfigError, match=r"strategy max_mi is not known to data\.task toy; use n"):
        load_config(file, {"selection": {"strategy": "max_mi"}})
    with pytest.raises(ConfigError, match=r"data\.words 5 is of no use to data\.task arithmetic"):
        load_config(file, {"data": {"task": "arithmetic"}})


@pytest.mark.usefixtures("toy")
def test_what_a_task_does_not_say_has_a_default():
    config = load_config(
        None, {"data": {"task": "toy"}, "selection": {"strategy": "ntp", "estimator": "joint"}}
    )
    data = config.data
    assert data.known_vocabulary() is None
    assert data.table_cells(config.selection, 8, 1) is None
    assert not data.packs_documents
    assert data.restoration("ntp").kind == "none"


def test_a_section_without_what_is_asked_of_it_cannot_be_made():
    class Half(DataSection):
        task: str = "half"

    with pytest.raises(TypeError, match="abstract"):
        Half()


@pytest.mark.parametrize(
    "data,title",
    [
        ({"digits": 2}, "2-digit multiplication"),
        ({"digits": 3, "digits_second": 1, "operation": "addition"}, "3 by 1-digit addition"),
        ({"task": "multilabel", "path": "x/tags.jsonl"}, "labels of tags.jsonl"),
        ({"task": "text", "path": "x/plays.txt"}, "text of plays.txt"),
        (CORPUS, "text of a, b"),
    ],
)
def test_titles_say_what_is_learned(data, title):
    assert load_config(None, {"data": data}).data.title() == title


def test_what_is_restored():
    data = load_config(None, {"data": {"digits": 1, "digits_second": 3}}).data
    told = data.restoration("max_mi")
    assert (told.kind, told.form, told.example) == ("reorder", r"[0-9]{1}\*[0-9]{3}=", "5*007=")
    text = load_config(None, {"data": {"task": "text", "path": "a"}}).data
    assert (text.restoration("ntp").kind, text.restoration("max_mi").kind) == ("none", "insert")


@pytest.mark.parametrize("task", list(registry.TASKS))
def test_every_field_of_a_task_is_documented(task):
    for name, field in section_of(task).model_fields.items():
        assert field.description, name


def test_reading_a_configuration_loads_no_library_of_numbers():
    code = (
        "import sys; from pretrain.config import parse_arguments; parse_arguments([], 'test'); "
        "sys.exit(bool({'numpy', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_default_task_is_the_registrys_first():
    assert Config().data.task == next(iter(registry.TASKS))
