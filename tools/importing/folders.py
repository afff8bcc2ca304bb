"""Folders with an `index.json`, as LitData and MosaicML's Streaming write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pretrain.errors import UserError

INDEX = "index.json"


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a folder.

    Raises:
        UserError: there is none, or it is no JSON object.
    """
    path = folder / INDEX
    try:
        index = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); name the folder that holds it"
        ) from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); copy it again") from None
    if not isinstance(index, dict):
        raise UserError(f"{path}: a {type(index).__name__}, expected an object; copy it again")
    return index


def chunk_path(folder: Path, name: Any) -> Path:
    """A file of a folder.

    Raises:
        UserError: the name leads out of it.
    """
    if not isinstance(name, str) or Path(name).name != name:
        raise UserError(f"{folder / INDEX}: names the file {name!r}, expected one of the folder")
    return folder / name
