import pytest

from pretrain.data.jsonl import LabelledText, read_labelled, read_texts, write_jsonl
from pretrain.errors import UserError


def test_labels_keep_the_order_of_the_file_and_stand_once(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes('\ufeff{"text": "é", "labels": ["b", "a", "b"], "id": 1}\r\n\n'.encode())
    assert read_labelled(path) == [LabelledText("é", ("b", "a"))]
    assert read_texts(path) == ["é"]


def test_paragraphs_are_documents(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n one\r\ntwo\n \n\nthree")
    assert read_texts(path) == [" one\ntwo", "three"]


def test_more_blank_lines_part_sections(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n\none\n\ntwo\n \n\nthree\n\n\n\n")
    assert read_texts(path, 2) == ["one\n\ntwo", "three"]
    assert read_texts(path, 3) == ["one\n\ntwo\n \n\nthree"]
    assert read_texts(path, 1) == ["one", "two", "three"]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"\nnonsense", "line 2: 'nonsense' is no JSON"),
        (b"[1]", "line 1: found '\\[1\\]'; expected an object"),
        (b'{"labels": []}', "field text is missing, found the fields: labels"),
        (b'{"text": "x"}', "field labels is missing, found the fields: text"),
        (b'{"text": 1, "labels": []}', "text is '1'; expected a string"),
        (b'{"text": "x", "labels": "a"}', "labels is 'a'; expected a list of strings"),
        (b'{"text": "x", "labels": [1]}', "labels is '\\[1\\]'; expected a list"),
        (b"\n \n", "is empty; expected"),
        (b'\n{"text": "\xe9"}', "line 2: byte 11 of the file, 0xe9, is not UTF-8"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, content, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_labelled(path)
    assert str(path) in str(caught.value)


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_labelled(tmp_path / "none.jsonl")
    (tmp_path / "a.txt").write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        read_texts(tmp_path / "a.txt")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.jsonl"
    assert write_jsonl(path, [{"text": "é", "labels": ("a",)}]) == 1
    before = path.read_bytes()

    def broken():
        yield {"text": "x", "labels": []}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_jsonl(path, broken())
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]
    assert read_labelled(path) == [LabelledText("é", ("a",))]
