import gzip

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
        (b"\nnonsense", "line 2: 'nonsense' is not JSON"),
        (
            b"[1]",
            "line 1: '\\[1\\]' is no object but list; a JSON file must hold one object a line",
        ),
        (b'{"labels": []}', "no field text, found the fields labels; expected"),
        (b'{"text": "x"}', "no field labels, found the fields text; expected"),
        (b'{"text": 1, "labels": []}', "text is no text but int .'1'.; expected"),
        (b'{"text": "x", "labels": ""}', "labels is ''; expected a list of strings"),
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


@pytest.mark.parametrize("name", ["a.ndjson", "a.json", "a.JSONL"])
def test_every_ending_of_json_lines_is_read_as_such(tmp_path, name):
    (tmp_path / name).write_text('{"text": "one"}\n{"text": "two"}\n')
    assert read_texts(tmp_path / name) == ["one", "two"]


def test_an_ending_that_says_no_format_is_refused(tmp_path):
    (tmp_path / "a.dat").write_text("one")
    with pytest.raises(UserError, match=r"a\.dat: the ending \.dat says no format"):
        read_texts(tmp_path / "a.dat")


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"text": "x", "labels": ["\\ud83d"]}', "half of a surrogate pair"),
        ('{"text": "\\ud83d", "labels": []}', "half of a surrogate pair"),
        ('{"text": "x", "labels": [], "y": ' + "[" * 20000 + "]" * 20000 + "}", "nested too deep"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_text('{"text": "x", "labels": []}\n' + line + "\n")
    with pytest.raises(UserError, match=rf"line 2: .*{message}"):
        read_labelled(tmp_path / "a.jsonl")


def test_a_label_that_is_one_string_is_a_set_of_one(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x", "labels": "a"}')
    assert read_labelled(tmp_path / "a.jsonl") == [LabelledText("x", ("a",))]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_compressed_file_that_was_cut_is_damaged(tmp_path, ending):
    zstandard = pytest.importorskip("zstandard")
    content = "".join(f"number {i * i}\n\n" for i in range(20000)).encode()
    packed = gzip.compress(content) if ending == ".gz" else zstandard.compress(content)
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(packed)
    assert len(read_texts(path)) == 20000
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UserError, match=r"damaged near byte .*copy it again"):
        read_texts(path)


def test_a_long_window_of_zstd_is_read(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    options = zstandard.ZstdCompressionParameters.from_level(3, window_log=28)
    packer = zstandard.ZstdCompressor(compression_params=options).compressobj()
    (tmp_path / "a.txt.zst").write_bytes(packer.compress(b"one\n\ntwo") + packer.flush())
    assert read_texts(tmp_path / "a.txt.zst") == ["one", "two"]


TABLE = 'id,body,tags\r\n0245,"one, ""two""\nthree",a\n\n7,0245,b\n'
BODIES = ['one, "two"\nthree', "0245"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.parquet"])
def test_tables_are_read_by_named_columns(tmp_path, name):
    path = tmp_path / name
    if name == "a.parquet":
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        columns = {"id": ["0245", "7"], "body": BODIES, "tags": ["a", "b"]}
        parquet.write_table(arrow.table(columns), path)
    else:
        content = TABLE if ".csv" in name else TABLE.replace(",", "\t").replace("one\t", "one,")
        path.write_bytes(gzip.compress(content.encode()) if name[-2:] == "gz" else content.encode())
    assert read_texts(path, field="body") == BODIES
    assert read_texts(path, field="id") == ["0245", "7"]
    names = {"text": "body", "labels": "tags"}
    assert read_labelled(path, names) == [
        LabelledText(text, (label,)) for text, label in zip(BODIES, "ab", strict=True)
    ]
    with pytest.raises(
        UserError, match=r"no field text, found the fields id, body, tags; expected"
    ):
        read_texts(path)


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "the table is empty; its first line must name the columns"),
        ("text,text\na,b\n", "two columns are named 'text'"),
        ("text,id\na,1\nb\n", "line 3: has 1 fields, another number of fields than the first .* 2"),
        ('text\n"a"b\n', "line 2: no row of a table"),
        ('text\na\n"b\nc\nd\n', "line 3: a value begins there that has no end"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path, content, message):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        read_texts(tmp_path / "a.csv")
