"""Make a checkpoint, at step 0, of a GPT-2 or Llama of Hugging Face, to continue pretraining from.

    python -m tools.import_hf --model DIR --config FILE --out CHECKPOINT
    python pretrain/main.py --config CHECKPOINT/config.yaml --checkpoint.resume CHECKPOINT

Weights are read from safetensors alone; moments are zero. CHECKPOINT/config.yaml is FILE with the
`model` section that the weights ask for.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pretrain.config import Config, load_config, read_yaml
from pretrain.config.block_style import BLOCK_STYLES
from pretrain.config.data import TokenizerFile
from pretrain.console import run_program
from pretrain.data.tokenizers import load_tokenizer
from pretrain.data.tokenizers.files import ending_of, save_tokenizer
from pretrain.errors import UserError
from pretrain.files import folder_whole
from pretrain.optimizers.base import optimizer_of
from pretrain.paths import path_argument
from pretrain.run_files import MANIFEST
from pretrain.training.checkpoint.manifest import File, Manifest, file_of
from tools.export_hf import OWN_TOKENIZER
from tools.hf.folders import CONFIG, HEAD, Weights, inside, read_json
from tools.hf.settings import Theirs

if TYPE_CHECKING:
    from torch import Tensor

    from tools.hf.mapping import Link

FILE_BYTES = 4 << 30
"""Most bytes of one file of the checkpoint, as far as one parameter and its moments allow."""
TOKENIZERS = (f"{OWN_TOKENIZER}.json", f"{OWN_TOKENIZER}.model", "tokenizer.json")
EMBEDDINGS = ("embedding.word_embeddings.weight", "output_layer.weight")
PREFIXES = ("", "transformer.", "model.")
"""First parts of names, which a model without a head, as the hub's GPT-2, leaves out; its head,
where it has one all the same, is called the same."""
IGNORED = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
"""Ends of names of tensors that are no parameters: masks and tables of older versions."""


def model_section(theirs: Theirs, given: dict[str, Any]) -> dict[str, Any]:
    """The `model` fields for the weights of a folder.

    Args:
        given: the `model` section of the user's file, of which the rest is kept.

    Raises:
        UserError: the folder's model cannot be one of ours, or has no room for the sequences.
    """
    section = theirs.model()
    if BLOCK_STYLES[section["preset"]].rotary:
        length = given.get("sequence_length", theirs.positions)
        if isinstance(length, int) and length > theirs.positions:
            raise UserError(
                f"model.sequence_length {length} is more than the {theirs.positions} positions "
                f"that {theirs.source} says the model knows; lower it"
            )
        section["sequence_length"] = length
    return section


def find_tokenizer(folder: Path) -> Any:
    """The tokenizer in a model's folder; None if there is none.

    Raises:
        UserError: it is one that cannot be used here; says what to do.
    """
    for name in TOKENIZERS:
        if (folder / name).exists() or (folder / name).is_symlink():
            path = inside(folder, name)
            try:
                return load_tokenizer(path)
            except UserError as error:
                raise UserError(
                    f"{error}; or name another with data.tokenizer in the configuration: the "
                    "embedding's rows then stand for other tokens, and have to be learnt anew"
                ) from error
    return None


class Source:
    """Parameters of ours, read from a folder of Hugging Face's.

    Args:
        weights: of the folder.
        parameters: of the model, with as many rows of vocabulary as the folder has.
        rows: of the embedding that are wanted; those that are added are the mean of the others.

    Raises:
        UserError: the folder has tensors that no parameter takes.
    """

    def __init__(self, weights: Weights, parameters: Sequence[Link], rows: int) -> None:
        self.weights = weights
        self.parameters = parameters
        self.rows = rows
        known = {key for link in parameters for key in link.theirs}
        body = known - {HEAD}
        self.prefix = next(
            (part for part in PREFIXES if any(part + key in body for key in weights.places)), ""
        )
        strange = [
            key
            for key in weights.places
            if self.prefix + key not in known and key != HEAD and not key.endswith(IGNORED)
        ]
        if strange:
            raise UserError(
                f"{weights.folder}: has a tensor {strange[0]}, for which a model of its "
                f"{CONFIG} has no place"
            )

    def shape(self, link: Link) -> tuple[int, ...]:
        """Of the parameter, with the rows that are wanted."""
        return (self.rows, *link.shape[1:]) if link.ours in EMBEDDINGS else link.shape

    def read(self, link: Link) -> Tensor:
        """The parameter in fp32."""
        import torch

        parts = [
            self.weights.read(key.removeprefix(self.prefix), shape)
            for key, shape in link.theirs.items()
        ]
        full = link.join(parts)
        if link.ours in EMBEDDINGS and self.rows > len(full):
            added = full.mean(dim=0).expand(self.rows - len(full), -1)
            full = torch.cat([full, added])
        return full.contiguous()

    def files(self, kinds: int) -> Iterator[list[Link]]:
        """Parameters that stand in one file of the checkpoint, each as so many fp32 tensors."""
        import torch

        file: list[Link] = []
        size = 0
        for link in self.parameters:
            bytes_ = 4 * kinds * torch.Size(self.shape(link)).numel()
            if file and size + bytes_ > FILE_BYTES:
                yield file
                file, size = [], 0
            file.append(link)
            size += bytes_
        yield file


def write_checkpoint(source: Source, config: Config, folder: Path) -> None:
    """Write files and manifest of a checkpoint that nothing was trained in.

    Raises:
        UserError: a tensor is missing or not what the configuration says.
        OSError: the folder cannot be written.
    """
    import torch

    from pretrain.training.checkpoint.tensor_files import Copy
    from pretrain.training.checkpoint.tensor_index import WEIGHT, Shard, Whole

    files: dict[str, File] = {}
    state = optimizer_of(config).state
    parts = list(source.files(1 + len(state)))
    with tqdm(total=len(source.parameters), desc="weights", unit="tensor", disable=None) as bar:
        for number, part in enumerate(parts):
            path = folder / f"rank-{number:05d}-of-{len(parts):05d}.safetensors"
            shards = []
            for link in part:
                flat = source.read(link).view(-1)
                values = {kind: torch.zeros_like(flat) for kind in state}
                whole = Whole(link.ours, source.shape(link), None, 1)
                shards.append(Shard(whole, 0, 1, 0, {WEIGHT: flat, **values}))
                bar.update()
            Copy.of(shards).write(path)
            files[path.name] = file_of(path)
    manifest = Manifest(
        step=0,
        tokens=0,
        updates=0,
        layout=f"imported from {source.weights.folder.name}",
        fingerprint="",
        config=config.model_dump(mode="json"),
        finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        state={"vocabulary": source.rows, "imported": source.weights.folder.name},
        files=files,
    )
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")


def bring_in(model: Path, config: Path, out: Path) -> list[str]:
    """Write the checkpoint, and config.yaml and the tokenizer beside it.

    Args:
        model: folder of Hugging Face's.
        config: YAML of a run.
        out: is made; must not be there, or be empty.

    Returns:
        Fields of `model` and `data` that differ from the file, as `field: value`.

    Raises:
        UserError: the model cannot be imported; the message names what was found.
    """
    from tools.hf.mapping import links

    if not model.is_dir():
        raise UserError(f"--model {model}: is no folder")
    theirs = Theirs(read_json(model, CONFIG), str(model / CONFIG))
    given = read_yaml(config)
    section = model_section(theirs, given.get("model") or {})
    weights = Weights(model)
    if weights.passed_over:
        print(f"{model}: {weights.read_from} is read, {weights.passed_over} beside it is not")
    if section["tie_embeddings"] and weights.has_own_head():
        print(f"{model}: its lm_head.weight is not the embedding; imported untied, with that head")
        section["tie_embeddings"] = False
    changed: dict[str, Any] = {"model": {**section, "vocabulary_size": None}}
    asked = (given.get("model") or {}).get("vocabulary_size")
    before = load_config(config, changed)
    if before.asks_units:
        raise UserError(
            f"{config}: selection.strategy any_order trains embeddings of the units that are asked "
            f"for, and {model} has none; use another strategy, or train from the start"
        )
    tokenizer = None
    if isinstance(before.data, TokenizerFile) and before.data.tokenizer is None:
        tokenizer = find_tokenizer(model)
    try:
        with folder_whole(out) as partial:
            if tokenizer is not None:
                name = f"tokenizer{ending_of(tokenizer)}"
                save_tokenizer(tokenizer, partial / name)
                changed["data"] = {"tokenizer": str(partial / name), "vocabulary": 8192}
            fitting = load_config(config, changed)
            rows = _rows(fitting, theirs.rows, asked)
            fitting.model.vocabulary_size = rows
            if tokenizer is not None:
                TokenizerFile.of(fitting).tokenizer = out / name
            exact = fitting.model.model_copy(update={"vocabulary_size": theirs.rows})
            source = Source(weights, list(links(exact, theirs.rows)), rows)
            write_checkpoint(source, fitting, partial)
            (partial / "config.yaml").write_text(fitting.to_yaml(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror or error}") from error
    return list(_differences(load_config(config), fitting)) if _loads(config) else []


def _rows(config: Config, theirs: int, asked: int | None) -> int:
    """Rows of the embedding: theirs at least, and those of the tokenizer."""
    tokens = config.data.build(config).tokenizer.size
    if asked is not None:
        if asked < max(theirs, tokens):
            raise UserError(
                f"model.vocabulary_size {asked} is below the model's {theirs} rows or the "
                f"tokenizer's {tokens} tokens; leave it out"
            )
        return asked
    return config.vocabulary_size(max(theirs, tokens))


def _loads(config: Path) -> bool:
    try:
        load_config(config)
    except UserError:
        return False
    return True


def _differences(before: Config, after: Config) -> Iterator[str]:
    for name in ("model", "data"):
        old, new = (getattr(each, name).model_dump(mode="json") for each in (before, after))
        yield from (f"{name}.{key}: {new[key]}" for key in new if new[key] != old[key])


def main(argv: Sequence[str] | None = None) -> int:
    """Import. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="tools.import_hf", description=__doc__)
    parser.add_argument(
        "--model", type=path_argument, required=True, help="folder of Hugging Face's"
    )
    parser.add_argument(
        "--config", type=path_argument, required=True, help="YAML of the run to come"
    )
    parser.add_argument("--out", type=path_argument, required=True, help="checkpoint to write")
    options = parser.parse_args(argv)
    try:
        changes = bring_in(options.model, options.config, options.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if changes:
        print(f"{options.out}/config.yaml differs from {options.config}:")
        print("\n".join(f"  {change}" for change in changes))
    print(
        f"begin with: python pretrain/main.py --config {options.out}/config.yaml "
        f"--checkpoint.resume {options.out}"
    )
    return 0


if __name__ == "__main__":
    run_program(main)
