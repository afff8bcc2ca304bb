"""Corpora for Megatron-LM: each document a sequence, with the end that its tokenizer has."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from pretrain.data.indexed import IndexedCorpus, bin_path, idx_path, read_manifest
from tests.data.corpora import END, LETTERS, made_up, save_letters, write_corpus
from tools.export_corpus import main

DOT = int(LETTERS.encode(".")[0])


def export(folder: Path, *options: object, end: object = DOT) -> int:
    return main(
        [str(folder / "web"), "--output", str(folder / "out"), "--end-token", str(end),
         "--tokenizer", str(folder / "letters.json"), *map(str, options)]
    )  # fmt: skip


@pytest.fixture(autouse=True)
def tokenizer(tmp_path) -> Path:
    return save_letters(tmp_path)


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("end", [DOT, "none", "<end>"])
def test_documents_are_sequences_with_their_end(tmp_path, ended, end):
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    documents = made_up(40, seed=1)
    write_corpus(tmp_path / "web", documents, ended)

    assert export(tmp_path, end=end) == 0

    stop = {"none": [], "<end>": [END]}.get(end, [DOT])
    expected = [[*chain(*document), *stop] for document in documents]
    theirs = IndexedDataset(str(tmp_path / "out"))
    assert [theirs[number].tolist() for number in range(len(theirs))] == expected
    assert theirs.document_indices.tolist() == list(range(41))
    manifest = read_manifest(tmp_path / "out")
    assert (manifest["end_of_document"], manifest["sentences"]) == (end != "none", False)


def test_the_files_are_those_that_megatron_would_write(tmp_path):
    import torch
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    documents = made_up(10, seed=2)
    write_corpus(tmp_path / "web", documents)
    export(tmp_path, end="none")

    theirs = IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=np.uint16)
    for document in documents:
        ids = list(chain(*document))
        theirs.add_document(torch.tensor(ids), [len(ids)])
    theirs.finalize(str(tmp_path / "theirs.idx"))
    for path_of in (bin_path, idx_path):
        assert path_of(tmp_path / "out").read_bytes() == path_of(tmp_path / "theirs").read_bytes()


def test_sentences_are_kept_if_asked_for(tmp_path):
    documents = made_up(10, seed=3)
    write_corpus(tmp_path / "web", documents, ended=True)

    assert export(tmp_path, "--sentences", end="none") == 0

    corpus = IndexedCorpus(tmp_path / "out", check=True)
    sentences = list(chain(*documents))
    assert [corpus.sequence(number).tolist() for number in range(len(sentences))] == sentences
    assert corpus.documents == 10


def test_special_tokens_of_ours_are_refused(tmp_path, capsys):
    write_corpus(tmp_path / "web", [[[1, LETTERS.special("<plan>"), 2]]])
    assert export(tmp_path, end="none") == 2
    assert f"holds id {LETTERS.special('<plan>')}" in capsys.readouterr().err
    assert not list(tmp_path.glob("*out*"))


def test_nothing_that_is_there_is_lost(tmp_path, capsys):
    write_corpus(tmp_path / "web", made_up(5, seed=4))
    bin_path(tmp_path / "out").write_bytes(b"something")
    assert export(tmp_path, end="none") == 2
    assert "is there already" in capsys.readouterr().err
    assert export(tmp_path, "--overwrite", "--output", tmp_path / "web", end="none") == 2
    assert "is the corpus itself" in capsys.readouterr().err
    assert export(tmp_path, "--overwrite", "--json", end="none") == 0
