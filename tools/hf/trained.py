"""A checkpoint as one process reads it: weights tensor by tensor, tokenizer, and the order."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.config import Config, load_config
from pretrain.data.tokenizers import Tokenizer
from pretrain.data.tokenizers.files import load_tokenizer
from pretrain.errors import UserError
from pretrain.run_files import SELECTION, VOCABULARIES
from pretrain.training.checkpoint.lineage import place_of
from pretrain.training.checkpoint.manifest import (
    CheckpointError,
    Manifest,
    check_files,
    newest_first,
    read_manifest,
)
from pretrain.training.checkpoint.tensor_files import PieceReader
from tools.hf.mapping import Link, links


def checkpoint_at(path: Path) -> Path:
    """The checkpoint's folder at `path`, or the newest one of the run at `path` that is complete.

    Raises:
        UserError: there is none.
    """
    folder, several = place_of(path)
    if not several:
        return folder
    skipped: list[str] = []
    for newest in newest_first(folder):
        try:
            check_files(newest, read_manifest(newest), checksums=False)
        except CheckpointError as error:
            skipped.append(str(error))
            continue
        for message in skipped:
            print(f"warning: skipped {message}", file=sys.stderr)
        return newest
    raise UserError(f"{path}: holds no complete checkpoint ({skipped[0]})")


@dataclass(frozen=True)
class Trained:
    """A checkpoint.

    Attributes:
        folder: of the checkpoint.
        manifest: what it says of itself.
        config: of the run that wrote it.
        tokenizer: of the model's tokens.
        strategy: by which targets were selected.
        order: units as answers are handed over by the model: as they are predicted, in natural
            order by one that has every order; empty where each example has an order of its own.
        asked_order: units as a model that has every order is asked for them; None for the surest
            next.
        unit_names: of the units in natural order.
    """

    folder: Path
    manifest: Manifest
    config: Config
    tokenizer: Tokenizer
    strategy: str
    order: tuple[int, ...]
    asked_order: tuple[int, ...] | None
    unit_names: tuple[str, ...]
    reader: PieceReader

    @classmethod
    def read(cls, path: Path) -> Trained:
        """The checkpoint at `path`, or the newest of the run there; every file is checked.

        Raises:
            UserError: it is not whole, harmful, or its tokenizer cannot be had.
        """
        folder = checkpoint_at(path)
        manifest = read_manifest(folder)
        check_files(folder, manifest)
        if "imported" in manifest.state:
            raise UserError(
                f"{folder}: is imported and not trained yet; train it, or use the model that it "
                "was made of"
            )
        config = load_config(None, manifest.config)
        selected = _selected(folder, manifest)
        names = tuple(selected["unit_names"])
        natural, order = tuple(range(len(names))), tuple(selected["order"])
        asked = {"natural": natural, "criterion": order, "adaptive": None}
        trained = cls(
            folder,
            manifest,
            config,
            _tokenizer(folder, manifest, config, names),
            selected["strategy"],
            natural if config.asks_units else order,
            asked[config.selection.decoding],
            names,
            PieceReader.alone([folder / name for name in manifest.rank_files]),
        )
        trained.check()
        return trained

    @property
    def rows(self) -> int:
        """Rows of the embedding."""
        rows = self.manifest.state.get("vocabulary")
        if not isinstance(rows, int) or rows < 1:
            raise CheckpointError(f"{self.folder}: says that its vocabulary has {rows!r} rows")
        return rows

    @property
    def links(self) -> list[Link]:
        """Every parameter, and what holds its numbers at Hugging Face's."""
        return list(links(self.config.model, self.rows))

    def check(self) -> None:
        """Whether every parameter is there, of the shape that the configuration says.

        Raises:
            CheckpointError: the first that is not.
        """
        for link in self.links:
            whole = self.reader.wholes.get(link.ours)
            if whole is None:
                raise CheckpointError(f"{self.folder}: has no parameter {link.ours}")
            if whole.shape != link.shape:
                raise CheckpointError(
                    f"{self.folder}: {link.ours} is {list(whole.shape)}, its configuration says "
                    f"{list(link.shape)}"
                )

    def weight(self, name: str) -> Tensor:
        """An undivided parameter in fp32.

        Raises:
            UserError: it is not finite throughout.
        """
        full = self.reader.full(name)
        if not torch.isfinite(full).all():
            raise UserError(
                f"{self.folder}: {name} holds NaN or an infinity; take a checkpoint of the run "
                "from before it went bad"
            )
        return full


def _selected(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """Strategy, order and names of units: the checkpoint's own, else the run's."""
    if "selection" in manifest.state:
        found: dict[str, Any] = manifest.state["selection"]
        return found
    path = folder.parent.parent / SELECTION
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["fingerprint"] == manifest.fingerprint:
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UserError(
        f"{folder}: does not say in which order its model predicts, and {path} is not of its "
        f"selection {manifest.fingerprint}; put it back beside the run's checkpoints"
    )


def _tokenizer(
    folder: Path, manifest: Manifest, config: Config, unit_names: tuple[str, ...]
) -> Tokenizer:
    """The run's tokenizer: from a file beside the checkpoint, in the run's folder or of
    `data.tokenizer`, else made again from the training texts."""
    own: Tokenizer | None = config.data.own_tokenizer()
    if own is not None:
        return own
    of_model = config.data.model_tokenizer
    expected = manifest.state.get("tokenizer")
    files = [place / name for place in (folder, folder.parent.parent) for name in VOCABULARIES]

    def of_file(file: Path) -> Tokenizer:
        return of_model(load_tokenizer(file, True), unit_names)

    candidates: list[Callable[[], Tokenizer]] = [
        partial(of_file, file) for file in files if file.is_file()
    ]
    given: Path | None = getattr(config.data, "tokenizer", None)
    texts: Path | None = getattr(config.data, "path", None)
    if given is not None and given.exists():
        candidates.append(partial(of_file, given))
    elif texts is not None and texts.exists():
        candidates.append(lambda: config.data.remade_tokenizer(config))
    for candidate in candidates:
        tokenizer = candidate()
        if expected is None or tokenizer.fingerprint == expected:
            return tokenizer
    names = " nor ".join(VOCABULARIES)
    raise UserError(
        f"{folder}: its tokenizer is not there: neither {names} in {folder.parent.parent}, nor "
        f"data.tokenizer {given}, nor data.path {texts} gives the "
        "one that it was trained with; put one of them back"
    )
