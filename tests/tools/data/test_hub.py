import gzip
import json

import datasets
import pytest

from pretrain.data.jsonl import read_texts
from tools.data import hub

ROWS = ["", " = One = \n", "", " a b . \n", " = = Part = = \n", " c .", " = Two = \n", " d . \n"]


@pytest.fixture
def local_set(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    for split, rows in (("train", ROWS), ("test", ["held out"])):
        folder.mkdir(exist_ok=True)
        datasets.Dataset.from_dict({"text": rows}).to_parquet(folder / f"{split}.parquet")
    return str(folder)


def test_rows_are_documents(local_set, tmp_path, capsys):
    out = tmp_path / "o.jsonl"
    assert hub.main(["--dataset", local_set, "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == 6
    assert read_texts(out) == [row for row in ROWS if row]
    assert hub.main(["--dataset", local_set, "--split", "test", "--out", str(out)]) == 0
    assert read_texts(out) == ["held out"]


def test_rows_are_joined_up_to_the_next_heading(local_set, tmp_path):
    out = tmp_path / "o.jsonl"
    options = ["--dataset", local_set, "--out", str(out), "--begin", "^ = [^=].* = $"]
    assert hub.main(options) == 0
    assert read_texts(out) == [" = One = \n\n a b . \n = = Part = = \n c .", " = Two = \n d . "]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--column", "body"], "column body is no text; there are text"),
        (["--split", "other"], "cannot be read"),
    ],
)
def test_what_is_not_there_is_said(local_set, tmp_path, capsys, options, message):
    out = tmp_path / "o.jsonl"
    assert hub.main(["--dataset", local_set, "--out", str(out), *options]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("kind", ["txt", "jsonl"])
@pytest.mark.parametrize("ending", ["zst", "gz"])
def test_a_compressed_file_that_was_cut_is_damaged(tmp_path, monkeypatch, capsys, ending, kind):
    zstandard = pytest.importorskip("zstandard")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    texts = [f"number {i * i} of the file" for i in range(5000)]
    lines = [json.dumps({"text": text}) if kind == "jsonl" else text for text in texts]
    content = "\n".join(lines).encode()
    packed = zstandard.compress(content) if ending == "zst" else gzip.compress(content)
    folder, out = tmp_path / "set", tmp_path / "o.jsonl"
    folder.mkdir()
    path = folder / f"train.{kind}.{ending}"
    path.write_bytes(packed)
    assert hub.main(["--dataset", str(folder), "--out", str(out)]) == 0
    assert read_texts(out) == texts
    out.unlink()
    path.write_bytes(packed[: len(packed) // 2])
    assert hub.main(["--dataset", str(folder), "--out", str(out)]) == 2
    assert "a compressed file is damaged" in capsys.readouterr().err
    assert not out.exists()


def test_a_long_window_of_zstd_is_read(tmp_path, monkeypatch):
    zstandard = pytest.importorskip("zstandard")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    options = zstandard.ZstdCompressionParameters.from_level(3, window_log=28)
    packer = zstandard.ZstdCompressor(compression_params=options).compressobj()
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.txt.zst").write_bytes(packer.compress(b"one\ntwo\n") + packer.flush())
    out = tmp_path / "o.jsonl"
    assert hub.main(["--dataset", str(folder), "--out", str(out)]) == 0
    assert read_texts(out) == ["one", "two"]
