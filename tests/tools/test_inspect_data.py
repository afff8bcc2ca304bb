"""Looking into a prepared corpus."""

import json

import pytest

from pretrain.config import load_config
from tests.data.corpora import made_up, save_letters, write_corpus
from tools.inspect_data import main

DOCUMENTS = made_up(40, seed=0)


@pytest.fixture
def prefix(tmp_path):
    save_letters(tmp_path)
    return write_corpus(tmp_path / "c", DOCUMENTS, ended=True)


def configured(prefix, **selection) -> str:
    data = {
        "task": "corpus",
        "blend": [str(prefix)],
        "tokenizer": prefix.parent / "letters.json",
        "split": "80,10,10",
    }
    config = load_config(None, {"data": data, "selection": selection, "run": {"progress": False}})
    path = prefix.parent / "c.yaml"
    path.write_text(config.to_yaml())
    return str(path)


def test_counts_and_lengths_are_those_of_the_corpus(prefix, capsys):
    letters = str(prefix.parent / "letters.json")
    assert main([str(prefix), "--tokenizer", letters, "--documents", "40", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    lengths = sorted(sum(map(len, document)) + 1 for document in DOCUMENTS)
    found = report["document_lengths"]
    assert (found["count"], found["longest"]) == (40, lengths[-1])
    assert found["mean"] == pytest.approx(sum(lengths) / 40)
    assert found["median"] == lengths[19]
    for entry in found["histogram"]:
        inside = [n for n in lengths if entry["from"] <= n <= entry["to"]]
        assert entry["count"] == len(inside)
    assert sum(entry["count"] for entry in found["histogram"]) == 40
    assert report["sentence_lengths"]["count"] == sum(map(len, DOCUMENTS))
    assert [sample["tokens"] for sample in report["samples"]] == [
        sum(map(len, document)) for document in DOCUMENTS
    ]


def test_the_page_fits_80_columns_and_marks_what_is_selected(prefix, capsys, tmp_path):
    plot = tmp_path / "lengths.png"
    first = configured(prefix, strategy="first")
    assert main([str(prefix), "--config", first, "--plot", str(plot)]) == 0
    shown = capsys.readouterr().out
    assert all(len(line) <= 80 for line in shown.splitlines() if "letters.json" not in line)
    assert "selected by first" in shown
    assert shown.count("[[") == sum(len(DOCUMENTS[number]) for number in (0, 13, 26))
    assert plot.read_bytes().startswith(b"\x89PNG")
    fitted = configured(prefix, strategy="max_mi", minimum_count=1)
    assert main([str(prefix), "--config", fitted, "--json", "--documents", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["samples"][0]["text"].count("[[") == len(DOCUMENTS[0])


def test_without_its_tokenizer_a_corpus_is_counted_and_not_shown(prefix, capsys):
    assert main([str(prefix)]) == 0
    assert "documents are not shown: letters.json" in capsys.readouterr().out
    assert main([str(prefix), "--tokenizer", "nowhere.json"]) == 2
    assert "error: nowhere.json" in capsys.readouterr().err
    assert main([str(prefix.parent / "d")]) == 2
    assert "d.idx: cannot be read" in capsys.readouterr().err
