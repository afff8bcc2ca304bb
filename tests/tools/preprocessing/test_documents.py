import gzip
import json
import re
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.data.jsonl import read_texts
from pretrain.errors import UserError
from tools.preprocessing.checksums import checksum
from tools.preprocessing.chunks import plan_units
from tools.preprocessing.documents import Bad, Reader, Rules
from tools.preprocessing.sources import find_sources

RULES = Rules("text", 1, 1000)
LINES = ["a\n", "bb\n", "\n", "\n", " \n", "\r\n", "c d\r\n", "é\n"]


def read(path, size=10**6, rules=RULES):
    """Documents, the number of lines, and the checksum, in units of `size` bytes."""
    found, lines, digests = [], 0, []
    for unit in plan_units(find_sources([str(path)]), size):
        reader = Reader(unit, rules)
        for one in reader:
            if isinstance(one, Bad):
                one = Bad(one.line + lines, one.why, one.start)
            found.append(one)
        lines += reader.lines
        digests += reader.digests
    return found, lines, checksum(digests)


def paths_of(tmp_path_factory, name, content):
    path = tmp_path_factory.mktemp("source") / name
    path.write_bytes(content)
    return path


@given(
    parts=st.lists(st.sampled_from(LINES), max_size=24),
    last=st.sampled_from(["x", "last"]),
    gap=st.integers(1, 3),
    size=st.integers(1, 20),
)
def test_plain_text_has_the_same_documents_in_units_of_any_size(
    tmp_path_factory, parts, last, gap, size
):
    path = paths_of(tmp_path_factory, "a.txt", "".join([*parts, last]).encode())
    rules = Rules("text", gap, 1000)
    whole = read(path, rules=rules)
    assert whole[0] == read_texts(path, gap)
    assert whole[1] == len(parts) + 1
    assert read(path, size, rules)[:2] == whole[:2]


@given(
    texts=st.lists(st.sampled_from(["", "a", "é" * 9, "\n", "bad"]), min_size=1, max_size=12),
    size=st.integers(1, 60),
)
def test_json_lines_have_the_same_documents_in_units_of_any_size(tmp_path_factory, texts, size):
    lines = ["{bad" if text == "bad" else json.dumps({"text": text}) for text in texts]
    path = paths_of(tmp_path_factory, "a.jsonl", "\n".join(lines).encode())
    whole = read(path)
    assert [one for one in whole[0] if isinstance(one, str)] == [t for t in texts if t != "bad"]
    assert [b.line for b in whole[0] if isinstance(b, Bad)] == [
        i for i, text in enumerate(texts) if text == "bad"
    ]
    assert read(path, size)[:2] == whole[:2]


@pytest.mark.parametrize(
    "line,why",
    [
        (b'{"text": "x', "not JSON"),
        (b'{"text": 5}', "text is no text but int"),
        (b'{"txt": "x", "id": 1}', "no field text, found the fields txt, id"),
        (b'["x"]', "no object but list"),
        (b'{"text": "\xff"}', r"not UTF-8 \(byte 0xff at 11\)"),
        (b'{"text": "\\ud800"}', r"half of a surrogate pair \(\\ud800\)"),
        (b'{"text": "' + b"x" * 1000 + b'"}', "a line of more than 0.000953674 MiB"),
        (b"[" * 900, "not JSON"),
    ],
)
def test_bad_lines_of_json_are_told_with_their_number(tmp_path, line, why):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "good"}\n\n' + line + b'\n{"text": "too"}\n')
    first, bad, last = read(tmp_path / "a.jsonl")[0]
    assert (first, last) == ("good", "too")
    assert bad.line == 2
    assert re.search(why, bad.why)
    assert len(bad.start) <= 120


def test_bad_documents_of_plain_text_are_told_with_their_line(tmp_path):
    long, longer = b"y" * 600, b"z" * 1001
    (tmp_path / "a.txt").write_bytes(
        b"good\n\nfine\nbad \xff\nmore\n\n%s\n%s\n\n%s\n\nend" % (long, long, longer)
    )
    good, invalid, grown, long_line, end = read(tmp_path / "a.txt")[0]
    assert (good, end) == ("good", "end")
    assert (invalid.line, invalid.start) == (3, "bad \N{REPLACEMENT CHARACTER}")
    assert invalid.why == "not UTF-8 (byte 0xff at 5)"
    assert (grown.line, long_line.line) == (6, 9)
    assert grown.why.startswith("a document of more than")
    assert long_line.start == "z" * 120


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa")
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a"}')
    assert read(tmp_path / "a.txt")[0] == read(tmp_path / "a.jsonl")[0] == ["a"]


def test_compressed_files_hold_the_same(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    content = b"".join(json.dumps({"text": f"no. {i}"}).encode() + b"\n" for i in range(200))
    (tmp_path / "a.jsonl").write_bytes(content)
    # Two frames each, as parallel compressors write them.
    for name, compress in (("b.jsonl.gz", gzip.compress), ("c.jsonl.zst", zstandard.compress)):
        (tmp_path / name).write_bytes(compress(content[:999]) + compress(content[999:]))
    whole = read(tmp_path / "a.jsonl")
    assert read(tmp_path / "b.jsonl.gz", 50)[:2] == whole[:2]
    assert read(tmp_path / "c.jsonl.zst", 50)[:2] == whole[:2]
    assert len(whole[0]) == 200


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_damaged_compressed_file_is_named(tmp_path, name):
    content = json.dumps({"text": "x" * 500}).encode()
    zstandard = pytest.importorskip("zstandard")
    whole = gzip.compress(content) if name.endswith("gz") else zstandard.compress(content)
    (tmp_path / name).write_bytes(b"no" + whole[2:])
    with pytest.raises(UserError, match=f"{name}: damaged near byte"):
        read(tmp_path / name)


def test_parquet_is_read_by_row_groups(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    texts = [f"row {i}" if i % 7 else None for i in range(50)]
    table = arrow.table({"text": texts, "id": list(range(50))})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=8)
    whole = read(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", 1)[:2] == whole[:2]
    assert [one for one in whole[0] if isinstance(one, str)] == [text for text in texts if text]
    assert [one.line for one in whole[0] if isinstance(one, Bad)] == list(range(0, 50, 7))
    with pytest.raises(UserError, match="no column body, found text, id; name one with --field"):
        read(tmp_path / "a.parquet", rules=Rules("body", 1, 1000))
    (tmp_path / "b.parquet").write_bytes(b"PAR0")
    with pytest.raises(UserError, match=r"b\.parquet: no Parquet file"):
        read(tmp_path / "b.parquet")


def test_urls_are_read_through_fsspec(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://corpus/a.jsonl", "wb") as file:
        file.write(b'{"text": "one"}\n{"text": "two"}\n')
    for size in (5, 1000):
        assert read("memory://corpus/*.jsonl", size)[0] == ["one", "two"]
    with pytest.raises(UserError, match=r"--input memory://none/\*: matches no file"):
        find_sources(["memory://none/*"])
    with pytest.raises(UserError, match=r"--input nosuch://x/\*: .*nosuch"):
        find_sources(["nosuch://x/*"])


def test_a_checksum_belongs_to_the_bytes_whichever_units_read_them(tmp_path):
    content = b"abc\n\ndef\n" * 30
    (tmp_path / "a.txt").write_bytes(content)
    pieces = [sha256(content[i : i + 64]).hexdigest() for i in range(0, len(content), 64)]
    assert read(tmp_path / "a.txt", 64)[2] == checksum(pieces)


def test_sources_are_found_in_order_and_once(tmp_path):
    for name in ("b.txt", "a.txt", "c.jsonl"):
        (tmp_path / name).write_text("x")
    patterns = [str(tmp_path / "c*"), str(tmp_path / "*")]
    found = [source.path.rsplit("/", 1)[1] for source in find_sources(patterns)]
    assert found == ["c.jsonl", "a.txt", "b.txt"]


@pytest.mark.parametrize(
    "name,message",
    [
        ("a.doc", r"a\.doc: the ending \.doc says no format; expected \.jsonl"),
        ("a.parquet.gz", "a compressed Parquet file"),
        ("a.txt", "the files are empty; name some with text"),
    ],
)
def test_sources_that_cannot_be_used_are_named(tmp_path, name, message):
    (tmp_path / name).write_text("" if name == "a.txt" else "x")
    with pytest.raises(UserError, match=message):
        find_sources([str(tmp_path / "*")])


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
def test_tables_have_the_documents_that_the_text_task_reads(tmp_path, name):
    rows = 'id,body\n1,"a, ""b""\n\nc"\n\n2,0245\n3,é\n'.replace(
        ",", "\t" if "tsv" in name else ","
    )
    path = tmp_path / name
    path.write_bytes(gzip.compress(rows.encode()) if name.endswith("gz") else rows.encode())
    rules = Rules("body", 1, 1000)
    documents, lines, digest = read(path, 3, rules)
    assert documents == read_texts(path, field="body") == [documents[0], "0245", "é"]
    assert documents[0][-5:] == 'b"\n\nc'
    assert lines == 7
    assert digest == checksum([sha256(part).hexdigest() for part in pieces(path.read_bytes(), 3)])
    with pytest.raises(UserError, match=r"no column text, found id, body; name one with --field"):
        read(path)


def pieces(content, size):
    return [content[begin : begin + size] for begin in range(0, len(content), size)]


def test_bad_rows_of_a_table_are_told_apart_from_a_table_that_is_none(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,id\na,1\nb\n"c"d,2\n\xe9,3\ne,4\n')
    documents = read(path)[0]
    assert [one for one in documents if isinstance(one, str)] == ["a", "e"]
    bad = [(one.line, one.why) for one in documents if isinstance(one, Bad)]
    assert [line for line, _ in bad] == [2, 3, 4]
    assert [why[:11] for _, why in bad] == ["has 1 field", "no row of a", "not UTF-8 ("]
    path.write_text('text,id\na,1\n"b,2\nc,3\n')
    with pytest.raises(UserError, match=r"a\.csv, line 3: a value begins there that has no end"):
        read(path)
    path.write_text("text,id\n" + chr(34) + 3 * ("b" * 900 + "\n") + chr(34) + ",2\n")
    with pytest.raises(
        UserError, match=r"line 2: a value begins there that has no end within 1,000"
    ):
        read(path)
