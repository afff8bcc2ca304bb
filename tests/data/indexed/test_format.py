import json
import re
import struct

import numpy as np
import pytest

from pretrain.data.indexed import (
    IndexedCorpus,
    IndexLayout,
    bin_path,
    check_tokenizer,
    idx_path,
    manifest_path,
    read_manifest,
    token_type,
    write_manifest,
)
from pretrain.data.tokenizers import CharacterTokenizer
from pretrain.errors import UserError

DOCUMENTS = [[[1, 2, 3], [4]], [[5, 6]], [[7], [8], [9, 10]]]


def write(prefix, documents=DOCUMENTS, size=100):
    """A corpus, written by Megatron-Core."""
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    builder = IndexedDatasetBuilder(str(bin_path(prefix)), dtype=token_type(size).type)
    for document in documents:
        ids = np.concatenate(document).astype(token_type(size))
        builder.data_file.write(ids.tobytes())
        builder.sequence_lengths += [len(sequence) for sequence in document]
        builder.end_document()
    builder.finalize(str(idx_path(prefix)))
    return prefix


@pytest.mark.parametrize("size,name", [(100, "uint16"), (65_499, "uint16"), (65_500, "int32")])
def test_what_megatron_wrote_is_read(tmp_path, size, name):
    corpus = IndexedCorpus(write(tmp_path / "c", size=size), check=True)
    assert corpus.layout.dtype.name == name
    assert (corpus.documents, corpus.sequences, corpus.tokens) == (3, 6, 10)
    sequences = [sequence for document in DOCUMENTS for sequence in document]
    assert [corpus.sequence(i).tolist() for i in range(6)] == sequences
    assert [corpus.document(i).tolist() for i in range(3)] == [
        [token for sequence in document for token in sequence] for document in DOCUMENTS
    ]


def test_a_layout_is_what_megatron_writes(tmp_path):
    content = idx_path(write(tmp_path / "c")).read_bytes()
    layout = IndexLayout(token_type(100), 6, 3)
    assert content.startswith(layout.header())
    assert len(content) == layout.size


def test_an_empty_corpus_is_read(tmp_path):
    idx_path(tmp_path / "c").write_bytes(IndexLayout(token_type(9), 0, 0).header() + bytes(8))
    bin_path(tmp_path / "c").touch()
    corpus = IndexedCorpus(tmp_path / "c", check=True)
    assert (corpus.documents, corpus.tokens) == (0, 0)


@pytest.mark.parametrize(
    "at,content,message",
    [
        (0, b"XX", r"c\.idx: begins with .*expected b'MMIDIDX"),
        (9, struct.pack("<Q", 2), r"c\.idx: version 2, expected 1"),
        (17, b"\x07", r"c\.idx: type of ids 7, expected one of 1 \(uint8\)"),
        (18, struct.pack("<Q", 7), r"c\.idx: 138 bytes, but 7 sequences and 3 documents take"),
        (26, struct.pack("<Q", 0), r"c\.idx: no document boundary"),
        (34, struct.pack("<i", 9), r"c\.idx: sequence 1 does not begin where the one before"),
        (106 + 8, struct.pack("<q", 7), r"c\.idx: documents are not in order"),
        (106 + 24, struct.pack("<q", 5), r"c\.idx: documents reach from sequence 0 to 5"),
        (54, struct.pack("<i", 3), r"c\.bin: 20 bytes, but c\.idx says 22; it is too short"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path, at, content, message):
    prefix = write(tmp_path / "c")
    damaged = bytearray(idx_path(prefix).read_bytes())
    damaged[at : at + len(content)] = content
    idx_path(prefix).write_bytes(damaged)
    with pytest.raises(UserError, match=message):
        IndexedCorpus(prefix, check=True)


@pytest.mark.parametrize(
    "path,cut,message",
    [
        (bin_path, -2, r"c\.bin: 18 bytes, but c\.idx says 20; it is too short"),
        (idx_path, -1, r"c\.idx: 137 bytes, but 6 sequences and 3 documents take 138"),
        (idx_path, 20, r"c\.idx: 20 bytes, and the header alone takes 34"),
    ],
)
def test_a_file_that_is_too_short_is_refused(tmp_path, path, cut, message):
    prefix = write(tmp_path / "c")
    path(prefix).write_bytes(path(prefix).read_bytes()[:cut])
    with pytest.raises(UserError, match=message):
        IndexedCorpus(prefix)


@pytest.mark.parametrize("path", [bin_path, idx_path])
def test_a_missing_file_is_named(tmp_path, path):
    prefix = write(tmp_path / "c")
    path(prefix).unlink()
    with pytest.raises(UserError, match=re.escape(f"{path(prefix)}: cannot be read (No such")):
        IndexedCorpus(prefix)


def test_a_tokenizer_that_does_not_match_is_refused(tmp_path):
    made, other = CharacterTokenizer("abc"), CharacterTokenizer("abcd")
    described = {"fingerprint": made.fingerprint, "size": made.size, "file": "t.json"}
    write_manifest(manifest_path(tmp_path / "c"), {"tokenizer": described})
    check_tokenizer(tmp_path / "c", made)
    with pytest.raises(UserError, match=r"c\.manifest\.json: made with tokenizer \w{12} \(9 ids"):
        check_tokenizer(tmp_path / "c", other)


@pytest.mark.parametrize(
    "content,message",
    [(None, "cannot be read"), ("{", "not JSON"), ("[]", "format None"), ("5", "format None")],
)
def test_a_manifest_that_cannot_be_used_is_refused(tmp_path, content, message):
    if content is not None:
        manifest_path(tmp_path / "c").write_text(content)
    with pytest.raises(UserError, match=message):
        read_manifest(tmp_path / "c")


def test_a_manifest_comes_back(tmp_path):
    write_manifest(manifest_path(tmp_path / "c"), {"documents": 3})
    assert read_manifest(tmp_path / "c") == {"format": 1, "documents": 3}
    assert json.loads((tmp_path / "c.manifest.json").read_text())["documents"] == 3
