"""Write a checkpoint as a GPT-2 or Llama that transformers reads, with generation in natural order.

    python -m tools.export_hf --checkpoint runs/NAME --out DIR [--dtype bfloat16]

Reads a run's newest checkpoint, or the one that is named, of any layout, on one process.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pretrain.config.block_style import GPT2
from pretrain.console import run_program
from pretrain.data.tokenizers import LabelTokenizer, TextTokenizer, WordTokenizer, joining
from pretrain.data.tokenizers.files import ending_of, save_tokenizer
from pretrain.data.tokenizers.pieces import PROBES
from pretrain.errors import UserError
from pretrain.files import folder_whole, json_text, open_to_umask
from pretrain.paths import path_argument
from tools.hf import restored_generation
from tools.hf.folders import CONFIG, INDEX, SINGLE
from tools.hf.settings import config_json
from tools.hf.tokenizer_json import differing, is_known, tokenizer_config, tokenizer_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from tools.hf.mapping import Link
    from tools.hf.trained import Trained

DTYPES = ("float32", "bfloat16")
OWN_TOKENIZER = "pretrain_tokenizer"
"""Our own tokenizer's file, with the ending of its kind; tools.import_hf prefers it."""


def export(
    trained: Trained, out: Path, dtype: str = "float32", shard_bytes: int = 2 << 30
) -> list[str]:
    """Write the folder of a model, whole or not at all.

    Args:
        out: is made; must not be there, or be empty.
        dtype: of the weights.
        shard_bytes: most bytes of one file of weights, as far as one tensor allows; so much memory
            is taken.

    Returns:
        What is to be said of it.

    Raises:
        UserError: the folder holds something, cannot be written, a weight cannot be read, the
            tokenizer has no such file, or the model is one that Hugging Face does not have.
    """
    if trained.config.asks_units:
        raise UserError(
            f"{trained.folder}: a model of selection.strategy any_order is told which unit it is "
            "asked for, and Hugging Face's models have no such embedding; ask it with "
            "tools.generate --checkpoint"
        )
    if not is_known(trained.tokenizer):
        raise UserError(
            f"{trained.folder}: a model of {trained.config.data.title()} reads fields, which a "
            "tokenizer.json cannot say; ask it with tools.generate --checkpoint"
        )
    try:
        with folder_whole(out) as partial:
            return _write(trained, partial, dtype, shard_bytes)
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror or error}") from error


def _write(trained: Trained, folder: Path, dtype: str, shard_bytes: int) -> list[str]:
    import torch

    from tools.hf.card import model_card
    from tools.hf.facts import facts_of

    facts = facts_of(trained)
    end = facts["end_id"]
    _write_weights(trained, folder, getattr(torch, dtype), shard_bytes)
    _write_json(
        folder / CONFIG,
        config_json(trained.config.model, trained.rows, dtype, facts["pad_id"], end),
    )
    ends = {"eos_token_id": end, "bos_token_id": end, "pad_token_id": facts["pad_id"]}
    _write_json(folder / "generation_config.json", {**ends, "do_sample": False})
    notes = _write_tokenizer(trained, folder)
    _write_json(folder / restored_generation.FACTS, facts)
    source = Path(restored_generation.__file__).read_text(encoding="utf-8")
    (folder / "restored_generation.py").write_text(
        source.replace(f"from {joining.__name__} import", "from joining import"), encoding="utf-8"
    )
    if facts["words"]:
        shutil.copyfile(Path(joining.__file__), folder / "joining.py")
    model = trained.config.model
    if model.style == GPT2 and model.query_groups != model.attention_heads:
        notes.append(
            f"GPT-2 of Hugging Face has no grouped heads: the {model.query_groups} keys and values "
            f"of each layer stand there {model.attention_heads // model.query_groups} times"
        )
    (folder / "README.md").write_text(model_card(trained, facts, notes), encoding="utf-8")
    return notes


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json_text(values, indent=2, ascii_only=False) + "\n", encoding="utf-8")


def _shards(links: Sequence[Link], item: int, most: int) -> Iterator[list[Link]]:
    """Parameters that stand in one file."""
    import torch

    shard: list[Link] = []
    size = 0
    for link in links:
        bytes_ = sum(item * torch.Size(shape).numel() for shape in link.theirs.values())
        if shard and size + bytes_ > most:
            yield shard
            shard, size = [], 0
        shard.append(link)
        size += bytes_
    yield shard


def _write_weights(trained: Trained, folder: Path, dtype: torch.dtype, most: int) -> None:
    import torch
    from safetensors.torch import save_file

    shards = list(_shards(trained.links, dtype.itemsize, most))
    places: dict[str, str] = {}
    total = 0
    with tqdm(total=len(trained.links), desc="weights", unit="tensor", disable=None) as bar:
        for number, shard in enumerate(shards, start=1):
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            name = SINGLE if len(shards) == 1 else name
            tensors: dict[str, Tensor] = {}
            for link in shard:
                parts = link.split(trained.weight(link.ours))
                for (key, shape), part in zip(link.theirs.items(), parts, strict=True):
                    assert tuple(part.shape) == shape, key
                    tensors[key] = part.to(dtype).clone(memory_format=torch.contiguous_format)
                bar.update()
            total += sum(tensor.nbytes for tensor in tensors.values())
            places |= dict.fromkeys(tensors, name)
            save_file(tensors, folder / name, metadata={"format": "pt"})
            open_to_umask(folder / name)
    if len(shards) > 1:
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})


def _write_tokenizer(trained: Trained, folder: Path) -> list[str]:
    tokenizer = trained.tokenizer
    content, named = tokenizer_json(tokenizer)
    length = trained.config.model.sequence_length
    (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", tokenizer_config(tokenizer, length, named))
    text = tokenizer.text if isinstance(tokenizer, LabelTokenizer) else tokenizer
    if not isinstance(text, TextTokenizer):
        return []
    own = folder / f"{OWN_TOKENIZER}{ending_of(text)}"
    save_tokenizer(text, own)
    notes = []
    if isinstance(text, WordTokenizer):
        notes.append(
            "tokenizer.json encodes as the model was trained, but cannot say how words are put "
            "together to text: its `decode` spaces some signs otherwise. restored_generation.py "
            "decodes exactly"
        )
    odd = differing(tokenizer, content, PROBES)
    if odd is not None:
        notes.append(
            f"tokenizer.json encodes some texts otherwise than the model was trained ({odd!r}); "
            f"{own.name} is exact"
        )
    if not named:
        notes.append(
            "special tokens have no names in tokenizer.json, since it leaves ids out; "
            "restored_order.json has their ids"
        )
    return notes


def main(argv: Sequence[str] | None = None) -> int:
    """Export. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="tools.export_hf", description=__doc__)
    parser.add_argument(
        "--checkpoint", type=path_argument, required=True, help="folder of a run or of a checkpoint"
    )
    parser.add_argument("--out", type=path_argument, required=True, help="folder to write")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights")
    parser.add_argument(
        "--shard-gb", type=float, default=2.0, help="GiB of one file of weights, and of memory"
    )
    options = parser.parse_args(argv)
    try:
        if options.shard_gb <= 0:
            raise UserError(f"--shard-gb {options.shard_gb}: expected a size above 0")
        from tools.hf.trained import Trained

        trained = Trained.read(options.checkpoint)
        notes = export(trained, options.out, options.dtype, int(options.shard_gb * 2**30))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for note in notes:
        print(f"note: {note}")
    print(
        f"{trained.folder} is in {options.out}; python {options.out}/restored_generation.py PROMPT"
    )
    return 0


if __name__ == "__main__":
    run_program(main)
