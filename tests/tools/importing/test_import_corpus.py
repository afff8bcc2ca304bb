"""Corpora of other trainers: the same ids and documents, where they lie or written anew."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from pretrain.data.indexed import IndexedCorpus, bin_path, idx_path, manifest_path, read_manifest
from tests.data.corpora import END, LETTERS, save_letters
from tests.tools.importing import writers
from tools.import_corpus import main

DOT = int(LETTERS.encode(".")[0])
"""A token of the text that ends documents in these tests."""


def made_up(documents: int = 30, seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 26, random.integers(1, 20)).tolist() for _ in range(documents)]


def ended(documents: list[list[int]]) -> list[list[int]]:
    return [[*document, DOT] for document in documents]


@pytest.fixture(autouse=True)
def tokenizer(tmp_path) -> Path:
    return save_letters(tmp_path)


def call(folder: Path, paths: object, *options: object, end: object = DOT, out: str = "out") -> int:
    inputs = paths if isinstance(paths, list) else [paths]
    return main(
        ["--input", *map(str, inputs), "--tokenizer", str(folder / "letters.json"),
         "--end-token", str(end), "--output", str(folder / out), *map(str, options)]
    )  # fmt: skip


def documents_of(prefix: Path) -> list[list[int]]:
    corpus = IndexedCorpus(prefix, check=True)
    return [corpus.document(number).tolist() for number in range(corpus.documents)]


def fault(capsys: pytest.CaptureFixture[str], code: int) -> str:
    assert code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["<u1", "<i1", "<i2", "<i4", "<i8", "<u2"])
def test_megatrons_are_read_where_they_lie(tmp_path, dtype):
    documents = ended(made_up())
    index = writers.megatron(tmp_path / "web", documents, dtype)
    before = index.read_bytes()

    assert call(tmp_path, index, out="web") == 0

    assert documents_of(tmp_path / "web") == documents
    assert index.read_bytes() == before
    manifest = read_manifest(tmp_path / "web")
    assert manifest["imported"]["zero_copy"]
    assert manifest["end_of_document"]
    assert not bin_path(tmp_path / "web").is_symlink()


@pytest.mark.parametrize(
    "write,options,dtype",
    [
        (lambda path, texts: path.write_bytes(writers.flat(texts, "<u2")),
         ("--format", "nanogpt", "--dtype", "uint16"), "uint16"),
        (lambda path, texts: path.write_bytes(writers.flat(texts, "<u4")),
         ("--format", "nanogpt", "--dtype", "uint32"), "int32"),
        (writers.llm_c, ("--format", "llm.c"), "uint16"),
        (lambda path, texts: writers.llm_c(path, texts, 20240801, 7),
         ("--format", "llm.c"), "int32"),
        (lambda path, texts: path.write_bytes(writers.flat(texts, "<u4")),
         ("--format", "olmo", "--dtype", "uint32"), "int32"),
        (lambda path, texts: np.save(path.open("wb"), np.array(list(chain(*texts)), np.int64)),
         ("--format", "olmo"), "int64"),
    ],
)  # fmt: skip
def test_a_stream_is_linked_and_parted_by_its_end_token(tmp_path, write, options, dtype):
    documents = ended(made_up())
    source = tmp_path / "train.bin"
    write(source, documents)
    size = source.stat().st_size

    assert call(tmp_path, source, *options) == 0

    assert documents_of(tmp_path / "out") == documents
    assert bin_path(tmp_path / "out").resolve() == source
    assert source.stat().st_size == size
    manifest = read_manifest(tmp_path / "out")
    assert (manifest["dtype"], manifest["documents"]) == (dtype, 30)
    assert manifest["imported"]["zero_copy"]
    assert manifest["imported"]["notes"] == []


def test_megatron_core_reads_a_linked_corpus_with_a_head(tmp_path):
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    documents = ended(made_up())
    call(tmp_path, writers.llm_c(tmp_path / "a.bin", documents), "--format", "llm.c")

    theirs = IndexedDataset(str(tmp_path / "out"))
    assert [theirs[number].tolist() for number in range(len(theirs))] == documents


def test_ends_may_stand_in_front_of_documents(tmp_path):
    """llm.c's scripts: the first end is passed over, and the last document has none."""
    documents = [[DOT, 1, 2], [DOT, 3], [DOT, 4, 5, 6]]
    source = writers.llm_c(tmp_path / "a.bin", documents)

    assert call(tmp_path, source, "--format", "llm.c") == 0

    assert documents_of(tmp_path / "out") == [[1, 2, DOT], [3, DOT], [4, 5, 6]]
    (note,) = read_manifest(tmp_path / "out")["imported"]["notes"]
    assert "the last document has no end token" in note


def test_empty_documents_are_taken_by_the_one_before(tmp_path):
    stream = [[DOT, DOT, 1, DOT, DOT, DOT, 2, 3, DOT, DOT, 4]]
    (tmp_path / "a.bin").write_bytes(writers.flat(stream, "<u2"))

    call(tmp_path, tmp_path / "a.bin", "--format", "nanogpt", "--dtype", "uint16")

    # The token behind the last end would be a document of an end alone.
    assert documents_of(tmp_path / "out") == [[1, DOT, DOT, DOT], [2, 3, DOT, DOT, 4]]


def test_documents_without_ids_are_left_out_of_a_copied_index(tmp_path, capsys):
    index = writers.megatron(tmp_path / "web", [[1, 2], [], [3], []])

    assert "name another --output" in fault(capsys, call(tmp_path, index, end="none", out="web"))
    assert not manifest_path(tmp_path / "web").exists()

    assert call(tmp_path, index, end="none") == 0
    assert documents_of(tmp_path / "out") == [[1, 2], [3]]
    assert bin_path(tmp_path / "out").is_symlink()


def test_where_end_document_was_not_called_sequences_are_documents(tmp_path):
    index = writers.megatron(tmp_path / "web", [[1, 2], [3]], ends=False)
    assert call(tmp_path, index, end="none") == 0
    assert documents_of(tmp_path / "out") == [[1, 2], [3]]


@pytest.mark.parametrize("size", [2, 4])
def test_datatroves_documents_are_those_of_its_index(tmp_path, size, capsys):
    documents = made_up()
    source = writers.datatrove(tmp_path / "00000_texts.ds", documents, size)

    assert call(tmp_path, source, end="none") == 0

    assert documents_of(tmp_path / "out") == documents
    manifest = read_manifest(tmp_path / "out")
    assert not manifest["end_of_document"]
    assert [Path(entry["path"]).suffix for entry in manifest["sources"]] == [
        ".ds", ".index", ".metadata",
    ]  # fmt: skip
    assert "do not end with it, the first of them document 0" in fault(
        capsys, call(tmp_path, source, "--overwrite")
    )


def test_several_files_are_joined(tmp_path):
    """Documents that a stream's files cut are whole again; ids get the type of the vocabulary."""
    documents = ended(made_up())
    ids = list(chain(*documents))
    for number, part in enumerate((ids[:50], ids[50:101], ids[101:])):
        (tmp_path / f"part-{number}.npy").write_bytes(writers.flat([part], "<u4"))

    assert call(tmp_path, tmp_path / "part-*.npy", "--dtype", "uint32") == 0

    assert documents_of(tmp_path / "out") == documents
    manifest = read_manifest(tmp_path / "out")
    assert not manifest["imported"]["zero_copy"]
    assert manifest["dtype"] == "uint16"


@pytest.mark.parametrize("kind", ["parquet", "arrow", "stream"])
def test_rows_of_a_table_are_documents(tmp_path, kind):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    documents = made_up()
    table = pyarrow.table({"n": range(31), "input_ids": [*documents[:5], None, *documents[5:]]})
    path = tmp_path / f"a.{'parquet' if kind == 'parquet' else 'arrow'}"
    if kind == "parquet":
        parquet.write_table(table, path, row_group_size=7)
    else:
        new = pyarrow.ipc.new_file if kind == "arrow" else pyarrow.ipc.new_stream
        with new(str(path), table.schema) as file:
            file.write_table(table, max_chunksize=7)

    assert call(tmp_path, path, end="none") == 0

    assert documents_of(tmp_path / "out") == documents


def test_padding_of_a_table_is_left_out(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    ids = [[1, 2, 0], [3, 0, 0], [4, 5, 6]]
    mask = [[1, 1, 0], [1, 0, 0], [1, 1, 1]]
    table = pyarrow.table({"tokens": ids, "attention_mask": mask})
    parquet.write_table(table, tmp_path / "a.parquet")

    assert call(tmp_path, tmp_path / "a.parquet", "--field", "tokens", end="none") == 0

    assert documents_of(tmp_path / "out") == [[1, 2], [3], [4, 5, 6]]


def test_packed_rows_are_parted_by_the_end_token(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    documents = ended(made_up())
    ids = list(chain(*documents))
    ids += [0] * (-len(ids) % 8)
    rows = np.array(ids).reshape(-1, 8).tolist()
    parquet.write_table(pyarrow.table({"input_ids": rows}), tmp_path / "a.parquet")

    assert call(tmp_path, tmp_path / "a.parquet", "--packed") == 0

    assert documents_of(tmp_path / "out")[:30] == documents


def test_a_stream_without_ends_is_cut(tmp_path, capsys):
    (tmp_path / "a.bin").write_bytes(writers.flat([range(25)], "<u2"))
    options = ("--format", "nanogpt", "--dtype", "uint16")
    error = fault(capsys, call(tmp_path, tmp_path / "a.bin", *options, end="none"))
    assert "cut what has none by --document-tokens" in error

    assert call(tmp_path, tmp_path / "a.bin", *options, "--document-tokens", 10, end="none") == 0

    cut = [list(range(10)), list(range(10, 20)), list(range(20, 25))]
    assert documents_of(tmp_path / "out") == cut


def test_ids_that_are_not_the_tokenizers_are_refused(tmp_path, capsys):
    (tmp_path / "a.bin").write_bytes(writers.flat([[1, 2, 28, DOT]], "<u2"))
    options = ("--format", "nanogpt", "--dtype", "uint16")
    assert "holds id 28, but" in fault(capsys, call(tmp_path, tmp_path / "a.bin", *options))
    options = ("--format", "nanogpt", "--dtype", "int8")
    assert call(tmp_path, tmp_path / "a.bin", *options, end=0) == 2
    assert not list(tmp_path.glob("out*")), "nothing is left of a refused import"
    assert not list(tmp_path.glob(".out*"))


def test_an_end_token_of_ours_is_taken(tmp_path):
    (tmp_path / "a.bin").write_bytes(writers.flat([[1, 2, END, 3, END]], "<u2"))
    options = ("--format", "nanogpt", "--dtype", "uint16")
    assert call(tmp_path, tmp_path / "a.bin", *options, end="<end>") == 0
    assert documents_of(tmp_path / "out") == [[1, 2, END], [3, END]]


def test_what_is_not_said_is_asked_for(tmp_path, capsys):
    source = tmp_path / "train.bin"
    source.write_bytes(writers.flat([[1, DOT]], "<u2"))
    assert "give --format" in fault(capsys, call(tmp_path, source))
    assert "give --dtype" in fault(capsys, call(tmp_path, source, "--format", "nanogpt"))
    assert "no tokens of llm.c's" in fault(capsys, call(tmp_path, source, "--format", "llm.c"))
    assert "matches no file" in fault(capsys, call(tmp_path, tmp_path / "nowhere*"))
    options = ("--format", "nanogpt", "--dtype", "uint16")
    assert "no such token" in fault(capsys, call(tmp_path, source, *options, end="</s>"))
    assert "does not occur" in fault(capsys, call(tmp_path, source, *options, end=5))


def test_a_common_last_token_is_told(tmp_path, capsys):
    source = writers.datatrove(tmp_path / "a.ds", ended(made_up()))
    assert call(tmp_path, source, end="none") == 0
    assert f"documents end with id {DOT}; if that is their end token" in capsys.readouterr().out


def test_nothing_that_is_there_is_lost(tmp_path, capsys):
    source = tmp_path / "train.bin"
    source.write_bytes(writers.flat([[1, DOT, 2, DOT]], "<u2"))
    options = ("--format", "nanogpt", "--dtype", "uint16")
    error = fault(capsys, call(tmp_path, source, *options, "--copy", "--overwrite", out="train"))
    assert "is a source" in error
    assert call(tmp_path, source, *options, out="train") == 0
    assert idx_path(tmp_path / "train").exists()
    assert "is there already" in fault(capsys, call(tmp_path, source, *options, out="train"))
    assert call(tmp_path, source, *options, "--overwrite", out="train") == 0
    assert source.read_bytes() == writers.flat([[1, DOT, 2, DOT]], "<u2")


@pytest.mark.parametrize(
    "harm,message",
    [
        (lambda index: index.write_bytes(b"TNTIDX\x00\x00" + bytes(40)), "fairseq's older kind"),
        (lambda index: index.write_bytes(index.read_bytes() + bytes(3)), "modes of sequences"),
        (lambda index: index.write_bytes(index.read_bytes()[:-1]), "copy it again"),
        (lambda index: index.with_suffix(".bin").write_bytes(bytes(4)), "do not belong together"),
    ],
)
def test_damage_of_megatrons_is_named(tmp_path, harm, message, capsys):
    index = writers.megatron(tmp_path / "web", [[1, 2], [3], [4]])
    harm(index)
    assert message in fault(capsys, call(tmp_path, index, end="none"))


def test_the_report_is_json(tmp_path, capsys):
    source = writers.datatrove(tmp_path / "a.ds", made_up())
    assert call(tmp_path, source, "--json", end="none") == 0
    assert json.loads(capsys.readouterr().out)["imported"]["format"] == "datatrove"


def test_a_chunk_of_litdata_is_linked(tmp_path):
    documents = ended(made_up())
    folder = writers.litdata(tmp_path / "tokens", documents)

    assert call(tmp_path, folder, "--format", "litdata") == 0

    assert documents_of(tmp_path / "out") == documents
    assert bin_path(tmp_path / "out").resolve() == folder / "chunk-0-0.bin"


@pytest.mark.parametrize(
    "change,message",
    [
        ({"item_loader": "PyTreeLoader"}, "expected one array of whole numbers for TokensLoader"),
        ({"data_format": ["no_header_tensor:1"]}, "expected one array of whole numbers"),
        ({"data_format": ["pickle"]}, "expected one array of whole numbers"),
        ({"data_format": ["no_header_tensor:17"]}, "do not fill the file with ids of int64"),
        ({"compression": "zstd"}, "write the chunks without it"),
    ],
)
def test_other_chunks_of_litdata_are_refused(tmp_path, change, message, capsys):
    folder = writers.litdata(tmp_path / "tokens", [[1], [2, DOT, 3]])
    index = json.loads((folder / "index.json").read_text())
    index["config"] |= change
    (folder / "index.json").write_text(json.dumps(index))
    assert message in fault(capsys, call(tmp_path, folder, "--format", "litdata"))


@pytest.mark.parametrize(
    "encoding,options",
    [("ndarray:int32", ()), ("ndarray", ()), ("bytes", ("--dtype", "int64"))],
)
def test_the_ids_of_mds_are_read_alone(tmp_path, encoding, options):
    documents = ended(made_up())
    folder = writers.mds(tmp_path / "tokens", documents, encoding)

    assert call(tmp_path, folder, "--format", "mds", "--field", "tokens", *options) == 0

    assert documents_of(tmp_path / "out") == documents
    assert not read_manifest(tmp_path / "out")["imported"]["zero_copy"]


def test_what_mds_pickled_is_refused(tmp_path, capsys):
    folder = writers.mds(tmp_path / "tokens", [[1], [2]])
    options = ("--format", "mds", "--field")
    error = fault(capsys, call(tmp_path, folder, *options, "about", end="none"))
    assert "column about is pkl" in error
    assert "no column 'ids'" in fault(capsys, call(tmp_path, folder, *options, "ids", end="none"))


def test_an_index_may_not_lead_out_of_its_folder(tmp_path, capsys):
    folder = writers.mds(tmp_path / "tokens", [[1], [2]])
    index = json.loads((folder / "index.json").read_text())
    index["shards"][0]["raw_data"]["basename"] = "../letters.json"
    (folder / "index.json").write_text(json.dumps(index))
    options = ("--format", "mds", "--field", "tokens")
    assert "expected one of the folder" in fault(capsys, call(tmp_path, folder, *options))


def test_a_corpus_without_a_manifest_names_the_import(tmp_path):
    from pretrain.errors import UserError

    writers.megatron(tmp_path / "web", [[1, 2], [3]])
    with pytest.raises(UserError, match=r"where another trainer wrote web\.bin.*import_corpus"):
        read_manifest(tmp_path / "web")


def test_an_imported_corpus_is_inspected_and_trained_on(tmp_path, capsys):
    """Linked behind a head, as every other corpus; its tokenizer joins digits."""
    from pretrain.config import load_config
    from pretrain.data.tokenizers import load_tokenizer
    from pretrain.distributed.ranks import discover
    from pretrain.tasks.text.task import CorpusTask
    from pretrain.training import job
    from tools.inspect_data import main as inspect

    tokenizers = pytest.importorskip("tokenizers")
    words = {"<|endoftext|>": 0, "a": 1, "b": 2, "1": 3, "11": 4}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(words, [("1", "1")]))
    made.save(str(tmp_path / "letters.json"))
    documents = [[*made.encode("ab11" * (1 + number % 5)).ids, 0] for number in range(60)]
    source = writers.llm_c(tmp_path / "a.bin", documents)
    assert call(tmp_path, source, "--format", "llm.c", end="<|endoftext|>") == 0

    capsys.readouterr()
    assert inspect([str(tmp_path / "out"), "--documents", "1"]) == 0
    shown = capsys.readouterr().out
    assert "document 0: 3 tokens\n  a b 11\n" in shown
    assert "not counted" in shown

    config = load_config(
        None,
        {
            "model": {"hidden_size": 16, "layers": 1, "attention_heads": 2, "sequence_length": 16},
            "data": {"task": "corpus", "blend": [str(tmp_path / "out")], "split": "80,10,10",
                     "tokenizer": tmp_path / "letters.json"},
            "selection": {"strategy": "ntp"},
            "training": {"global_batch": 4, "steps": 2},
            "run": {"directory": tmp_path / "run", "progress": False},
        },
    )  # fmt: skip
    stop = load_tokenizer(tmp_path / "letters.json", any_digits=True).special("<end>")
    packed = CorpusTask(config).packed
    stream = packed.cut(np.array([0]), 16, stop)[0].tolist()
    expected = [token for document in documents for token in [stop, *document[:-1]]]
    assert stream == expected[:16]
    assert job.run(config, discover()) == 0
