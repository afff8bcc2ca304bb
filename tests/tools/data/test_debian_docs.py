"""Pages of documentation as text."""

import gzip
import json
import subprocess

import pytest

from tools.data import debian_docs
from tools.data.debian_docs import main, text_of

PAGE = """<html><head><title>T</title><style>p {}</style></head><body>
<div class="sphinxsidebar"><p>elsewhere</p></div><nav>up<br>down</nav>
<h1>Policy<a class="headerlink" href="#">¶</a></h1><p>One
 sentence &amp; <em>more</em>.<p>Unclosed.<pre>a
  b</pre><ul><li>x</li><li>y</li></ul><script>no()</script></body></html>"""


def test_a_page_is_its_text_without_navigation():
    assert text_of(PAGE) == "Policy\n\nOne sentence & more.\n\nUnclosed.\na\n  b\n\nx\n\ny"


def test_pages_are_written_once_and_in_an_order_of_their_own(tmp_path, monkeypatch, capsys):
    def unpack(packages, folder):
        root = folder / "usr/share/doc/p"
        (root / "_sources").mkdir(parents=True)
        (root / "folder.html").mkdir()
        (root / "a.html").write_text(PAGE)
        (root / "again.html").write_text(PAGE)
        (root / "b.txt.gz").write_bytes(gzip.compress(b"plain  \n\n\n\ntext of a page"))
        (root / "c.txt").write_text("short")
        (root / "_sources/a.txt").write_text("x" * 100)
        (root / "changelog.txt").write_text("x" * 100)

    monkeypatch.setattr(debian_docs, "unpacked", unpack)
    out = tmp_path / "docs.jsonl"
    assert main(["p", "--out", str(out), "--minimum", "10"]) == 0
    texts = [json.loads(line)["text"] for line in out.read_text().splitlines()]
    assert sorted(texts) == sorted(["plain\n\ntext of a page", text_of(PAGE)])
    shown = capsys.readouterr().out
    for told in ("2 documents", "2 indexes and sources", "1 repeated", "1 short or not UTF-8"):
        assert told in shown


def test_a_package_that_apt_does_not_know_is_named(tmp_path, monkeypatch, capsys):
    def refuse(command, **_):
        return subprocess.CompletedProcess(command, 100, "", "E: Unable to locate package nope\n")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert main(["nope", "--out", str(tmp_path / "x.jsonl")]) == 2
    assert "apt-get failed: E: Unable to locate package nope" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError):
        (tmp_path / "x.jsonl").stat()
