"""Reading a model's folder that others wrote: plain files inside it, of kinds that hold no code.

Weights are read from safetensors alone, whose reader checks header, ranges and sizes; nothing is
unpickled, and no Python file of the folder is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from pretrain.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "config.json"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
HEAD = "lm_head.weight"
EMBEDDINGS = (
    "model.embed_tokens.weight", "embed_tokens.weight", "transformer.wte.weight", "wte.weight",
)  # fmt: skip
MOST_JSON_BYTES = 64 << 20
"""Longest JSON file that is read."""
DTYPES = ("F32", "BF16", "F16")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_SHARD = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors$")


def inside(folder: Path, name: str) -> Path:
    """A file of a folder.

    Raises:
        UserError: it is missing, no plain file, or a link that leads out of the folder.
    """
    path = folder / name
    if not path.exists():
        raise UserError(f"{path}: there is no such file; copy the whole folder of the model again")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"{path}: is a link that leads out of the folder, to {path.resolve()}; copy the folder "
            "with its files (cp -rL)"
        )
    if not path.is_file():
        raise UserError(f"{path}: is no plain file")
    return path


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """The object in a JSON file of a folder.

    Raises:
        UserError: as :func:`inside`, or it is too long or holds no object.
    """
    path = inside(folder, name)
    try:
        if path.stat().st_size > MOST_JSON_BYTES:
            raise ValueError(f"it is longer than {MOST_JSON_BYTES >> 20} MiB")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds a {type(values).__name__}, expected an object")
    return values


class Weights:
    """Tensors of a model's folder, read one at a time.

    Args:
        folder: holds model.safetensors, or several files and their index; where it holds both, the
            single file is read, as transformers does.

    Raises:
        UserError: there is neither, or a file is damaged, is no safetensors or leads elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places: dict[str, Path] = {}
        listed: Mapping[str, str] | None = None
        single, index = (
            (folder / name).is_symlink() or (folder / name).exists() for name in (SINGLE, INDEX)
        )
        if not single:
            if not index:
                raise UserError(self._absent())
            listed = self._listed()
        self.read_from = SINGLE if single else INDEX
        self.passed_over = INDEX if single and index else None
        for name in sorted({SINGLE} if listed is None else set(listed.values())):
            path = inside(folder, name)
            for key in self._keys(path):
                if listed is None or listed.get(key) == name:
                    self.places[key] = path
        if absent := sorted(set(listed or ()) - set(self.places)):
            raise UserError(
                f"{folder / INDEX}: names {absent[0]} in {dict(listed or {})[absent[0]]}, which "
                "does not hold it; copy the folder again"
            )

    def _listed(self) -> Mapping[str, str]:
        listed = read_json(self.folder, INDEX).get("weight_map")
        if not isinstance(listed, dict) or not listed:
            raise UserError(f"{self.folder / INDEX}: has no weight_map")
        for name in listed.values():
            if not isinstance(name, str) or not _SHARD.match(name):
                raise UserError(
                    f"{self.folder / INDEX}: names {name!r}, which is no safetensors file of its "
                    "folder"
                )
        return listed

    def _absent(self) -> str:
        pickled = sorted(path.name for kind in _PICKLED for path in self.folder.glob(kind))
        if pickled:
            return (
                f"{self.folder}: holds {pickled[0]}, a pickle, which can run code when it is "
                f"read, and no {SINGLE}; where you trust it, save it again with "
                "transformers' save_pretrained(), which writes safetensors"
            )
        return f"{self.folder}: holds neither {SINGLE} nor {INDEX}; name the folder of a model"

    def _keys(self, path: Path) -> list[str]:
        try:
            with safe_open(path, framework="pt") as file:
                return list(file.keys())
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"{path}: is no whole safetensors file: {error}") from error

    def has_own_head(self) -> bool:
        """Whether lm_head.weight holds other numbers than the embedding, whatever `config.json`
        says of the two: transformers then uses it.

        Raises:
            UserError: a file is damaged.
        """
        import torch

        head = self.places.get(HEAD)
        embedding = next((name for name in EMBEDDINGS if name in self.places), None)
        if head is None or embedding is None:
            return False
        try:
            with safe_open(head, framework="pt") as file:
                own: Tensor = file.get_tensor(HEAD)
            with safe_open(self.places[embedding], framework="pt") as file:
                return not torch.equal(own, file.get_tensor(embedding))
        except (SafetensorError, OSError) as error:
            raise UserError(f"{head}: {error}") from error

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A tensor in fp32.

        Raises:
            UserError: it is missing, of another shape or kind, or not finite throughout.
        """
        import torch

        path = self.places.get(name)
        if path is None:
            raise UserError(f"{self.folder}: has no tensor {name}, which {CONFIG} asks for")
        try:
            with safe_open(path, framework="pt") as file:
                stored: Any = file.get_slice(name)
                found, kind = tuple(stored.get_shape()), stored.get_dtype()
                if found != shape:
                    raise UserError(
                        f"{path}: {name} is {list(found)}, {CONFIG} says {list(shape)}; they are "
                        "not of one model"
                    )
                if kind not in DTYPES:
                    raise UserError(
                        f"{path}: {name} is {kind}, expected one of {', '.join(DTYPES)}; save the "
                        "model in one of them"
                    )
                tensor: Tensor = file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: {error}") from error
        if not torch.isfinite(tensor).all():
            raise UserError(
                f"{path}: {name} holds NaN or an infinity, expected finite numbers only; take a "
                "checkpoint of the model from before it went bad"
            )
        return tensor.float()
