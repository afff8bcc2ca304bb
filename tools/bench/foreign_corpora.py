"""Corpora as the trainers' own packages write them, imported and trained on.

    python tools/bench/foreign_corpora.py write DIR TOKENIZER.json TEXT   # where they are installed
    python -m tools.bench.foreign_corpora train DIR                       # here

`write` takes whichever of megatron-core, datatrove, litdata, mosaicml-streaming and datasets it
finds (raw formats need none), in an environment of their own: it imports nothing of this project.
`train` imports each corpus, compares its documents as text, and trains a tiny model for some steps.
docs/corpora.md has what came out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

END = "<|endoftext|>"
STEPS = 5
FORMATS: dict[str, tuple[str, list[str]]] = {
    "megatron": ("megatron/web.idx", []),
    "nanogpt": ("nanogpt/train.bin", ["--dtype", "uint16"]),
    "llm.c": ("llm.c/train_000001.bin", []),
    "olmo": ("olmo/part-0-00000.npy", ["--dtype", "uint32"]),
    "datatrove": ("datatrove/*.ds", []),
    "litdata": ("litdata", []),
    "mds": ("mds", ["--field", "tokens"]),
    "arrow": ("arrow/*.arrow", []),
    "parquet": ("parquet/a.parquet", []),
}
"""Where each corpus lies, and what must be said of it."""
Documents = list[list[int]]


def write_megatron(folder: Path, documents: Documents) -> None:
    """Megatron-Core's IndexedDatasetBuilder."""
    import torch
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    builder = IndexedDatasetBuilder(str(folder / "web.bin"), dtype=np.uint16)
    for document in documents:
        builder.add_document(torch.tensor(document), [len(document)])
    builder.finalize(str(folder / "web.idx"))


def write_nanogpt(folder: Path, documents: Documents) -> None:
    """As nanoGPT's `data/openwebtext/prepare.py`: a memmap that is filled."""
    ids = list(chain(*documents))
    file = np.memmap(folder / "train.bin", dtype=np.uint16, mode="w+", shape=(len(ids),))
    file[:] = ids
    file.flush()


def write_llm_c(folder: Path, documents: Documents) -> None:
    """As llm.c's `dev/data/data_common.py`: 256 int32, the ids, an end before each document."""
    ids = [documents[0][-1], *chain(*documents)][:-1]
    head = np.zeros(256, dtype=np.int32)
    head[:3] = 20240520, 1, len(ids)
    content = head.tobytes() + np.array(ids, dtype=np.uint16).tobytes()
    (folder / "train_000001.bin").write_bytes(content)


def write_olmo(folder: Path, documents: Documents) -> None:
    """As dolma's `tokens`: a memmap named .npy."""
    ids = list(chain(*documents))
    file = np.memmap(folder / "part-0-00000.npy", dtype=np.uint32, mode="w+", shape=(len(ids),))
    file[:] = ids
    file.flush()


def write_litdata(folder: Path, documents: Documents) -> None:
    """LitData's writer with its TokensLoader."""
    import torch
    from litdata.streaming.item_loader import TokensLoader
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder), chunk_size=10**6, item_loader=TokensLoader())
    for number, document in enumerate(documents):
        writer[number] = torch.tensor(document, dtype=torch.int32)
    writer.done()
    writer.merge()


def write_mds(folder: Path, documents: Documents) -> None:
    """MosaicML Streaming's MDSWriter, with a column that is pickled beside the ids."""
    from streaming import MDSWriter

    columns = {"tokens": "ndarray:int32", "about": "pkl", "title": "str"}
    with MDSWriter(columns=columns, out=str(folder), size_limit=50_000) as writer:
        for number, document in enumerate(documents):
            tokens = np.array(document, np.int32)
            writer.write({"tokens": tokens, "about": {}, "title": str(number)})


def write_arrow(folder: Path, documents: Documents) -> None:
    """Hugging Face's `datasets`: save_to_disk."""
    from datasets import Dataset

    Dataset.from_dict({"input_ids": documents}).save_to_disk(str(folder))


def write_parquet(folder: Path, documents: Documents) -> None:
    """pyarrow."""
    from pyarrow import parquet, table

    parquet.write_table(table({"input_ids": documents}), folder / "a.parquet", row_group_size=100)


WRITERS: dict[str, Callable[[Path, Documents], None]] = {
    "megatron": write_megatron,
    "nanogpt": write_nanogpt,
    "llm.c": write_llm_c,
    "olmo": write_olmo,
    "litdata": write_litdata,
    "mds": write_mds,
    "arrow": write_arrow,
    "parquet": write_parquet,
}


def write_datatrove(folder: Path, texts: list[str], tokenizer: Path) -> None:
    """datatrove's DocumentTokenizer, which tokenizes itself."""
    from datatrove.data import Document
    from datatrove.pipeline.tokens.tokenizer import DocumentTokenizer

    step = DocumentTokenizer(
        str(folder), tokenizer_name_or_path=str(tokenizer), eos_token=END, shuffle_documents=False
    )
    step.run(Document(text=text, id=str(n)) for n, text in enumerate(texts))


def write(folder: Path, file: Path, text: Path) -> None:
    """Each format's corpus of the paragraphs of a text, as far as its package is installed."""
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_file(str(file))
    texts = [part for part in text.read_text(encoding="utf-8").split("\n\n") if part.strip()]
    stop = tokenizer.token_to_id(END)
    documents = [[*tokenizer.encode(each).ids, stop] for each in texts]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_bytes(file.read_bytes())
    (folder / "texts").write_text("\0".join(texts), encoding="utf-8")
    for name in FORMATS:
        place = folder / name
        if place.exists():
            continue
        place.mkdir()
        try:
            if name == "datatrove":
                write_datatrove(place, texts, file)
            else:
                WRITERS[name](place, documents)
        except ImportError as error:
            place.rmdir()
            print(f"{name}: not written ({error})")
        else:
            print(f"{name}: written")


def train(folder: Path) -> None:
    """Import each corpus, compare its texts and train on it; print a line each."""
    from pretrain.data.indexed import IndexedCorpus, bin_path
    from pretrain.data.tokenizers import load_tokenizer
    from tools.import_corpus import main as import_main

    tokenizer = load_tokenizer(folder / "tokenizer.json", any_digits=True)
    texts = (folder / "texts").read_text(encoding="utf-8").split("\0")
    for name, (inputs, options) in FORMATS.items():
        if not (folder / name).exists():
            continue
        prefix = folder / f"imported-{name}"
        code = import_main(
            ["--format", name, "--input", str(folder / inputs), *options, "--end-token", END,
             "--tokenizer", str(folder / "tokenizer.json"), "--output", str(prefix), "--overwrite"]
        )  # fmt: skip
        assert code == 0, name
        corpus = IndexedCorpus(prefix, check=True)
        stop = tokenizer.token_id(END)
        found = []
        for number in range(corpus.documents):
            ids = corpus.document(number)
            found.append(tokenizer.decode(ids[:-1] if ids[-1] == stop else ids))
        equal = sum(one == other for one, other in zip(found, texts, strict=False))
        linked = bin_path(prefix).is_symlink()
        print(
            f"{name}: {'linked' if linked else 'written'}, {equal:,} of {len(texts):,} texts "
            f"equal, {len(found):,} documents, loss {_trained(folder, name, prefix):.3f} after "
            f"{STEPS} steps"
        )


def _trained(folder: Path, name: str, prefix: Path) -> float:
    from pretrain.config import load_config
    from pretrain.distributed.ranks import discover
    from pretrain.run_files import METRICS
    from pretrain.training import job

    values: dict[str, Any] = {
        "model": {"hidden_size": 32, "layers": 1, "sequence_length": 64},
        "data": {
            "task": "corpus", "blend": [str(prefix)], "tokenizer": folder / "tokenizer.json",
            "split": "90,5,5",
        },
        "selection": {"strategy": "ntp"},
        "training": {"global_batch": 8, "steps": STEPS, "evaluation_examples": 5},
        "checkpoint": {"resume": "never", "save_final": False},
        "run": {
            "directory": folder / "runs" / name, "log_every": 1, "progress": False,
            "overwrite": True, "tensorboard": False,
        },
    }  # fmt: skip
    assert job.run(load_config(None, values), discover()) == 0
    lines = (folder / "runs" / name / METRICS).read_text().splitlines()
    return float(json.loads(lines[-1])["loss"])


def main() -> int:
    """Write or train. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools.bench.foreign_corpora",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ways = parser.add_subparsers(required=True, dest="way")
    writes = ways.add_parser("write", help="corpora by the packages that are installed")
    trains = ways.add_parser("train", help="import each of them, compare, and train")
    for way in (writes, trains):
        way.add_argument("folder")
    writes.add_argument("tokenizer")
    writes.add_argument("text")
    options = parser.parse_args()
    if options.way == "write":
        write(Path(options.folder), Path(options.tokenizer), Path(options.text))
    else:
        train(Path(options.folder))
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        sys.exit(main())
    from pretrain.console import run_program

    run_program(main)
