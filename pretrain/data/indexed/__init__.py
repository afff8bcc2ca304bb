"""Tokenized corpora on disk: Megatron's `.bin` and `.idx`, and a manifest of their origin."""

from pretrain.data.indexed.format import (
    IndexedCorpus,
    IndexLayout,
    bin_path,
    idx_path,
    token_type,
)
from pretrain.data.indexed.manifest import (
    check_tokenizer,
    manifest_path,
    read_manifest,
    write_manifest,
)

__all__ = [
    "IndexLayout",
    "IndexedCorpus",
    "bin_path",
    "check_tokenizer",
    "idx_path",
    "manifest_path",
    "read_manifest",
    "token_type",
    "write_manifest",
]
