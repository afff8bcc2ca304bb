"""PREFIX.manifest.json: from what, and with which tokenizer, a corpus was made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.data.tokenizers import Tokenizer
from pretrain.errors import UserError
from pretrain.files import json_text, written_whole

FORMAT = 1


def manifest_path(prefix: Path | str) -> Path:
    """Where the manifest is."""
    return Path(f"{prefix}.manifest.json")


def read_manifest(prefix: Path | str) -> dict[str, Any]:
    """The manifest of a corpus.

    Raises:
        UserError: there is none, or this version cannot read it.
    """
    path = manifest_path(prefix)
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); prepare the corpus with "
            "tools.preprocess_data, copy the file from where the corpus came, or, where another "
            f"trainer wrote {path.name.removesuffix('.manifest.json')}.bin, make it with "
            "tools.import_corpus"
        ) from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); copy it again") from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise UserError(f"{path}: format {found!r}, expected {FORMAT}; prepare the corpus again")
    return manifest


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest, whole or not at all."""
    with written_whole(path) as beside:
        beside.write_text(
            json_text({"format": FORMAT, **manifest}, indent=1, ascii_only=False) + "\n",
            encoding="utf-8",
            errors="backslashreplace",  # a file name that is not UTF-8: JSON's own escapes
        )


def check_tokenizer(prefix: Path | str, tokenizer: Tokenizer) -> None:
    """Refuse a tokenizer with which the corpus was not made.

    Raises:
        UserError: it is another, or the corpus has no manifest.
    """
    made = read_manifest(prefix)["tokenizer"]
    if made["fingerprint"] != tokenizer.fingerprint:
        raise UserError(
            f"{manifest_path(prefix)}: made with tokenizer {made['fingerprint'][:12]} "
            f"({made['size']:,} ids, {made['file']}), but the one given is "
            f"{tokenizer.fingerprint[:12]} ({tokenizer.size:,} ids); give the tokenizer of the "
            "corpus, or prepare the corpus with this one"
        )
