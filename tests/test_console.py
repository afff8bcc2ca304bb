"""What programs print reaches outputs that take ASCII only, and file names that are no UTF-8."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pretrain.console import run_program

ROOT = Path(__file__).resolve().parent.parent
STANDALONE = {"restored_generation.py", "wheels.py"}
"""Programs that run without the rest; they print what they are given as escapes, or ASCII."""


def printed(text: str, encoding: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))

    def main() -> int:
        print(text, flush=True)
        return 3

    with pytest.raises(SystemExit) as end:
        run_program(main)
    assert end.value.code == 3
    return raw.getvalue()


def test_an_output_of_ascii_only_gets_ascii(monkeypatch):
    text = "0.5 ± 0.1 … Student’s λ"
    assert printed(text, "ascii", monkeypatch) == b"0.5 +- 0.1 ... Student's \\u03bb\n"


def test_an_output_gets_the_characters_that_it_has(monkeypatch):
    assert printed("± λ", "latin-1", monkeypatch) == "± \\u03bb\n".encode("latin-1")
    assert printed("± λ", "utf-8", monkeypatch) == "± λ\n".encode()


def test_a_file_name_that_is_no_utf8_is_printed(monkeypatch):
    assert printed(os.fsdecode(b"a\xff.txt"), "utf-8", monkeypatch) == b"a\\udcff.txt\n"


@pytest.mark.parametrize(
    "path",
    [
        path
        for room in ("pretrain", "launcher", "tools")
        for path in sorted((ROOT / room).rglob("*.py"))
        if '__name__ == "__main__"' in path.read_text() and path.name not in STANDALONE
    ],
    ids=lambda path: path.stem,
)
def test_every_program_prints_so(path):
    start = path.read_text().split('__name__ == "__main__"')[1]
    assert "run_program(main)" in start or "take_all_characters()" in start


def test_a_program_that_shows_text_ends_well_where_the_output_is_ascii(tmp_path):
    (tmp_path / "tokenizer.json").write_text(
        '{"kind":"characters","format":1,"tokens":["я","é"," "]}'
    )
    (tmp_path / "texts.jsonl").write_text('{"text": "я é"}\n')
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    for tool in (
        ["preprocess_data", "--input", "texts.jsonl", "--tokenizer", "tokenizer.json",
         "--output", "я"],
        ["inspect_data", "я", "--documents", "1"],
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", f"tools.{tool[0]}", *tool[1:]],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "\\u044f" in done.stdout
