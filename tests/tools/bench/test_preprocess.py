import json

import pytest

from pretrain.data.indexed import bin_path, idx_path
from pretrain.data.tokenizers import save_tokenizer, train_pieces
from tools.bench import preprocess

TEXT = "".join(f"In {year} the cat saw {year * 7} birds. It sang.\n\n" for year in range(200))


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    sentences = preprocess.sentences_of([tmp_path / "a.txt"])
    assert "".join(sentences).replace("\n", "") == TEXT.replace("\n", "")
    text, tokenizer = tmp_path / "text.jsonl", tmp_path / "t.model"
    with text.open("w") as file:
        for document in preprocess.made_documents(sentences, 50_000, 0.03, 0):
            file.write(json.dumps({"text": document}) + "\n")
    save_tokenizer(train_pieces([TEXT], "bpe", 310), tokenizer)
    return text, tokenizer


def test_documents_have_the_size_and_are_drawn_by_the_seed():
    first, again, other = (
        list(preprocess.made_documents(["One. ", "Two three."], 5000, 0.5, seed))
        for seed in (0, 0, 1)
    )
    assert first == again != other
    assert 5000 <= sum(len(text) for text in first) < 5500


def test_new_words_are_not_in_the_sentences():
    text = " ".join(preprocess.made_documents(["w " * 100], 20_000, 0.1, 0))
    share = sum(word != "w" for word in text.split()) / len(text.split())
    assert 0.08 < share < 0.11
    assert set(" ".join(preprocess.made_documents(["w " * 100], 900, 0.0, 0)).split()) == {"w"}


def test_all_routes_come_to_their_end_and_two_to_the_same_files(files, tmp_path):
    pytest.importorskip("datasets")
    text, tokenizer = files
    for name, route in preprocess.CALLS.items():
        assert route(text, tokenizer, tmp_path / name, 1) > 0
    for path in (bin_path, idx_path):
        assert path(tmp_path / "ours").read_bytes() == path(tmp_path / "pool").read_bytes()


def test_a_route_tells_seconds_and_memory(files):
    report = preprocess.run_route("ours", *files, 1)
    assert report["seconds"] > 0
    assert report["cpu_seconds"] > 0
    assert 10 < report["peak_mib"] < 4000


def test_the_report_has_ratios_of_all_and_the_least(tmp_path, capsys, monkeypatch):
    (tmp_path / "a.txt").write_text(TEXT)

    def pretended(name, text, tokenizer, processes):
        seconds = {"ours": 1.0, "pool": 4.0 - processes, "datasets_map": 2.0 + processes}[name]
        return {"seconds": seconds, "cpu_seconds": seconds, "peak_mib": 100.0}

    monkeypatch.setattr(preprocess, "run_route", pretended)
    options = ["--input", str(tmp_path / "a.txt"), "--megabytes", "0.01", "--size", "310"]
    assert preprocess.main([*options, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ratio"] == {"pool": 2.0, "datasets_map": 3.0}
    assert report["processes"]["1"]["ratio"] == {"pool": 3.0, "datasets_map": 3.0}
    assert report["peak_mib"] == {"0.0025 MB": 100.0, "0.01 MB": 100.0}
    assert preprocess.main(options) == 0
    assert "peak memory of ours" in capsys.readouterr().out
