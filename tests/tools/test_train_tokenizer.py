import json
import re

import pytest

from pretrain.data.tokenizers import load_tokenizer
from tools import train_tokenizer
from tools.train_tokenizer import main

TEXT = "".join(f"In {year} the cat saw {year * 7} birds.\n" for year in range(1900, 2000))


def run(tmp_path, kind, size, *names, out=None):
    target = tmp_path / (out or ("t.json" if kind in ("characters", "words") else "t.model"))
    paths = [str(tmp_path / name) for name in names]
    arguments = ["--kind", kind, "--input", *paths, "--size", str(size), "--out", str(target)]
    return main([*arguments, "--json"]), target


@pytest.mark.parametrize(
    "kind, size", [("characters", 60), ("words", 20), ("unigram", 287), ("bpe", 310)]
)
def test_training_is_repeatable_and_measured(tmp_path, capsys, kind, size):
    (tmp_path / "a.txt").write_text(TEXT)
    lines = [json.dumps({"text": line, "id": 1}) for line in TEXT.splitlines(keepends=True)]
    (tmp_path / "b.jsonl").write_text("\n\n".join(lines))
    contents = []
    for names in (["a.txt"], ["b.jsonl"]):
        code, out = run(tmp_path, kind, size, *names)
        captured = capsys.readouterr()
        assert code == 0, captured.err
        report = json.loads(captured.out)
        tokenizer = load_tokenizer(out)
        assert report["fingerprint"] == tokenizer.fingerprint
        assert report["size"] == tokenizer.size
        assert report["bytes"] == len(TEXT)
        contents.append(out.read_bytes())
        out.unlink()
    assert contents[0] == contents[1]
    assert tokenizer.size <= size
    assert (tokenizer.size == size) == (kind in ("unigram", "bpe", "words"))


def test_the_figures_are_right(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("aaa bbé\naaa")
    arguments = ["--kind", "characters", "--input", str(tmp_path / "a.txt"), "--size", "8"]
    assert main([*arguments, "--out", str(tmp_path / "t.json")]) == 0
    # a (6) and b (2) are known; a space, an é and a line's end are not. é has two bytes.
    shown = capsys.readouterr().out
    assert "8 ids" in shown
    assert "12 bytes, 11 tokens, 1.091 bytes per token, 27.273 % unknown" in shown


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.txt", b"fine\nbad \xff\n", r"a\.txt, line 2: byte 9 of the file, 0xff, is not UTF-8"),
        ("a.txt", b" \n\n", "there is no text"),
        ("a.jsonl", b'{"text": "x"}\n\n{"text": \n', r"a\.jsonl, line 3: '.\"text\":' is not JSON"),
        ("a.jsonl", b'{"txt": "x"}\n', r"a\.jsonl, line 1: no field text, found the fields txt"),
        ("a.jsonl", b'{"text": 5}\n', r"a\.jsonl, line 1: text is no text but int"),
        ("a.jsonl", b'"text"\n', r"a\.jsonl, line 1: .* is no object but str"),
        (
            "a.jsonl",
            b'{"text": "a\\ud800"}\n',
            r"a\.jsonl, line 1: half of a surrogate pair .\\ud800.",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_bad_input_is_named_with_its_line(tmp_path, capsys, name, content, message, kind):
    (tmp_path / name).write_bytes(content)
    code, out = run(tmp_path, kind, 300, name)
    assert code == 2
    assert re.search(message, capsys.readouterr().err)
    assert not out.exists()


def test_bad_arguments_are_refused(tmp_path, capsys):
    (tmp_path / "a.txt").write_text(TEXT)

    def refused(*arguments, **options):
        assert run(tmp_path, *arguments, **options)[0] == 2
        return capsys.readouterr().err

    assert "b.txt: cannot be read (No such file" in refused("words", 30, "b.txt")
    assert "cannot be read (Is a directory" in refused("words", 30, ".")
    assert "must end in .json" in refused("words", 30, "a.txt", out="t.model")
    assert "must end in .model" in refused("bpe", 300, "a.txt", out="t.json")
    assert "--size: size 3 has no room" in refused("words", 3, "a.txt")
    assert "the largest possible is" in refused("bpe", 9000, "a.txt")
    assert "is too small" in refused("unigram", 100, "a.txt")
    assert run(tmp_path, "words", 30, "a.txt")[0] == 0
    capsys.readouterr()
    assert "is there already" in refused("words", 30, "a.txt")


def test_long_trainings_say_that_no_progress_follows(tmp_path, capsys, monkeypatch):
    (tmp_path / "a.txt").write_text(TEXT)
    monkeypatch.setattr(train_tokenizer, "NOTICE_BYTES", 10)
    assert run(tmp_path, "bpe", 300, "a.txt")[0] == 0
    assert "learning pieces; this shows no progress" in capsys.readouterr().err
