"""A run that goes on is the same run: its data and its tokenizer are those that it began with."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from pretrain.testing.processes import call_on
from tests.training.test_job import BRIEF, run

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def sentence(number: int) -> str:
    return " ".join(WORDS[int(digit)] for digit in f"{number * 7919 % 100_000:05d}") + "."


def documents(path: Path, count: int, first: int = 0) -> Path:
    """Plain text, a document a paragraph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(sentence(number) for number in range(first, first + count)) + "\n")
    return path


def labelled(path: Path, count: int) -> Path:
    """JSON lines; a text's labels are its first two words."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [f"{sentence(number)} {sentence(number + 1)}" for number in range(count)]
    lines = [json.dumps({"text": text, "labels": text.split()[:2]}) for text in texts]
    path.write_text("\n".join(lines) + "\n")
    return path


TASKS = {"text": documents, "multilabel": labelled}


def trained(folder: Path, steps: int, data: dict, strategy: str = "ntp", code: int = 75) -> None:
    stopped = {"max_minutes": 1e-9} if code else {}
    made = partial(
        run,
        data=data,
        selection={"strategy": strategy},
        training={**BRIEF, "evaluation_examples": 3, "steps": steps, **stopped},
        model={"hidden_size": 32, "sequence_length": 24},
    )
    assert call_on(1, made, str(folder), {}) == [code]


@pytest.mark.parametrize(
    "task,strategy",
    [
        ("text", "ntp"),
        ("text", "first"),
        ("text", "max_mi"),
        ("multilabel", "ntp"),
        ("multilabel", "frequency"),
    ],
)
def test_another_document_is_refused_and_the_same_text_elsewhere_is_not(tmp_path, task, strategy):
    write, folder = TASKS[task], tmp_path / "run"
    path = write(tmp_path / "a" / ("texts.jsonl" if task == "multilabel" else "text.txt"), 80)
    data = {"task": task, "path": path, "vocabulary": 64, "test_fraction": 0.2}
    if task == "multilabel":
        data["minimum_documents"] = 2
    trained(folder, 5, data, strategy)
    before = (folder / "vocabulary.json").read_bytes()
    write(path, 81)
    told = r"trained on something else: .*the training data was \w{12} and is \w{12}.*put the texts"
    with pytest.raises(RuntimeError, match=told):
        trained(folder, 5, data, strategy)
    assert (folder / "vocabulary.json").read_bytes() == before
    write(path, 80)  # written anew
    trained(folder, 5, data, strategy)
    moved = tmp_path / "elsewhere" / path.name
    moved.parent.mkdir()
    shutil.move(path, moved)
    trained(folder, 5, {**data, "path": moved}, strategy)
    assert "step-00000003" in {path.name for path in (folder / "checkpoints").iterdir()}


def test_other_held_out_texts_are_refused(tmp_path):
    test = documents(tmp_path / "test.txt", 9, 500)
    data = {"task": "text", "path": documents(tmp_path / "a.txt", 80), "test_path": test}
    trained(tmp_path / "run", 5, data)
    documents(test, 10, 500)
    with pytest.raises(RuntimeError, match="something else: the held-out data was"):
        trained(tmp_path / "run", 5, data)


def test_a_checkpoint_without_fingerprints_goes_on_only_with_the_same_path(tmp_path):
    """As those of format 1: what lies at another path is not known to be the same."""
    data = {"task": "text", "path": documents(tmp_path / "a.txt", 80), "test_fraction": 0.2}
    trained(tmp_path / "run", 5, data)
    (manifest,) = (tmp_path / "run" / "checkpoints").glob("*/manifest.json")
    values = json.loads(manifest.read_text())
    for name in ("run", "parent", "origin"):
        del values[name]
    del values["state"]["fingerprints"]
    manifest.write_text(json.dumps({**values, "format": 1}))
    moved = documents(tmp_path / "b.txt", 80)
    with pytest.raises(RuntimeError, match=r"data\.path was '\S+a.txt' and is '\S+b.txt'"):
        trained(tmp_path / "run", 5, {**data, "path": moved})
    trained(tmp_path / "run", 5, data)


def test_the_first_step_alone_is_not_compared(tmp_path):
    """A run that has saved nothing begins again, with what is there now."""
    data = {"task": "text", "path": documents(tmp_path / "a.txt", 80), "test_fraction": 0.2}
    trained(tmp_path / "run", 5, data)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    documents(data["path"], 81)
    trained(tmp_path / "run", 5, data)
