"""What the folder of a table says of itself, and whether its files are those that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.errors import UserError
from pretrain.files import checksum

FORMAT = 1
MANIFEST = "manifest.json"
MARGINALS = "marginals.safetensors"
Json = dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """What a folder holds.

    Attributes:
        path: the folder.
        values: the JSON object, checked for its format and keys.
    """

    path: Path
    values: Json

    @property
    def fingerprint(self) -> str:
        """Of every count; the same for any number of ranks."""
        return str(self.values["fingerprint"])

    @property
    def made_from(self) -> Json:
        """Corpus, tokenizer and estimator."""
        return dict(self.values["made_from"])

    @property
    def state(self) -> Json:
        """What the one who saved the table wanted to remember."""
        return dict(self.values["state"])

    def check_made_from(self, expected: Mapping[str, Any]) -> None:
        """Check that the table was made from what is expected.

        Raises:
            UserError: names what differs.
        """
        found = self.made_from
        differing = [
            f"{name}: the table's is {_short(found.get(name))}, this run's {_short(value)}"
            for name, value in expected.items()
            if found.get(name) != value
        ]
        if differing:
            raise UserError(
                f"selection table {self.path} does not belong to this run\n  "
                + "\n  ".join(differing)
                + "\n  fit it again into another folder (python -m tools.fit_selection), or set "
                "selection.table to one that fits"
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."


def read_manifest(path: Path) -> Manifest:
    """The manifest of a table's folder, with the sizes of its files checked.

    Raises:
        UserError: names the file, what was found and what to do.
    """
    file = path / MANIFEST
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path} holds no selection table ({MANIFEST} is missing); make one with python -m "
            "tools.fit_selection"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}; fit the table again") from error
    expected = (
        "fingerprint", "made_from", "state", "pairs", "layout", "rows", "rows_kept", "columns",
        "total", "documents", "positions", "marginals", "shards",
    )  # fmt: skip
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else type(values).__name__
        raise UserError(f"{file} has format {found}, expected {FORMAT}; fit the table again")
    missing = [name for name in expected if name not in values]
    if missing:
        raise UserError(f"{file} lacks {', '.join(missing)}; fit the table again")
    for part in (values["marginals"], *values["shards"]):
        _check_size(path, part)
    return Manifest(path, values)


def _check_size(path: Path, part: Json) -> None:
    name = part["file"]
    if Path(name).name != name:
        raise UserError(f"{path / MANIFEST} names {name!r}, which lies outside its folder")
    try:
        found = (path / name).stat().st_size
    except OSError as error:
        raise UserError(f"{path / name}: {error.strerror}; fit the table again") from error
    if found != part["bytes"]:
        raise UserError(
            f"{path / name} has {found:,} bytes, the manifest says {part['bytes']:,}: it was cut "
            "short or changed; copy it again, or fit the table again"
        )


def check_content(path: Path, part: Json) -> None:
    """Check the checksum of a file of the folder.

    Raises:
        UserError: the file was changed.
    """
    if checksum(path / part["file"]) != part["sha256"]:
        raise UserError(
            f"{path / part['file']} was changed or damaged: its SHA-256 is not the manifest's; "
            "copy it again, or fit the table again"
        )


def check_alike(first: Manifest, other: Manifest) -> None:
    """Check that two tables can be added up.

    Raises:
        UserError: they have other rows, columns or pairs, or lack rows.
    """
    for name in ("pairs", "rows", "columns", "positions"):
        if first.values[name] != other.values[name]:
            raise UserError(
                f"{other.path} cannot be added to {first.path}: its {name} are "
                f"{_short(other.values[name])}, not {_short(first.values[name])}"
            )
    for manifest in (first, other):
        if manifest.values["layout"] == "top_k":
            raise UserError(
                f"{manifest.path} has layout top_k, which lacks rows and cannot be added to "
                "another table; fit it with a larger memory budget or more ranks"
            )


def check_marginals(manifest: Manifest, arrays: Mapping[str, np.ndarray]) -> None:
    """Check that marginals have the shapes that the manifest announces.

    Raises:
        UserError: they do not.
    """
    values = manifest.values
    lengths = {"rows": values["rows"], "columns": values["columns"], "pairs": values["rows"]}
    if values["positions"] is not None:
        lengths["keys"] = values["rows"]
    if arrays.keys() != lengths.keys() or any(
        array.dtype != np.int64 or array.shape != (lengths[name],) or np.any(array < 0)
        for name, array in arrays.items()
    ):
        raise UserError(f"{manifest.path / MARGINALS} does not fit {MANIFEST}; fit the table again")
