"""Checkpoints of small models that nothing was trained in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pretrain.config import Config, load_config
from pretrain.optimizers.adamw import AdamW
from pretrain.training.checkpoint.manifest import Manifest, file_of, read_manifest
from pretrain.training.checkpoint.tensor_files import Copy, PieceReader
from pretrain.training.checkpoint.tensor_index import WEIGHT, Shard, Whole
from tools.hf.mapping import links

KINDS = (WEIGHT, *AdamW.state)

SIZES = {"layers": 2, "hidden_size": 32, "attention_heads": 4, "sequence_length": 16}
LLAMA = {"preset": "llama", "kv_heads": 2, "ffn_size": 48}
ARITHMETIC = {
    "strategy": "max_mi",
    "order": (2, 1, 3, 0),
    "unit_names": ("thousands", "hundreds", "tens", "units"),
}


def config_of(model: dict[str, Any] | None = None, **sections: Any) -> Config:
    return load_config(None, {"model": {**SIZES, **(model or {})}, **sections})


def save(
    folder: Path,
    config: Config,
    rows: int = 24,
    selection: dict[str, Any] = ARITHMETIC,
    **state: Any,
) -> dict[str, torch.Tensor]:
    """Write a checkpoint of random weights; returns them."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    weights = {
        link.ours: torch.randn(link.shape, generator=generator) * 0.3
        for link in links(config.model, rows)
    }
    shards = [
        Shard(
            Whole(name, tuple(full.shape), None, 1), 0, 1, 0, dict.fromkeys(KINDS, full.flatten())
        )
        for name, full in weights.items()
    ]
    path = folder / "rank-00000-of-00001.safetensors"
    # Moments of their own: a safetensors file holds no tensor twice.
    for shard in shards:
        for kind in KINDS[1:]:
            shard.parts[kind] = shard.parts[kind].clone()
    Copy.of(shards).write(path)
    manifest = Manifest(
        step=7,
        tokens=1_000,
        updates=7,
        layout="one",
        fingerprint="abcdef",
        config=config.model_dump(mode="json"),
        finished="2026-01-01T00:00:00",
        state={"vocabulary": rows, "selection": selection, **state},
        files={path.name: file_of(path)},
    )
    (folder / "manifest.json").write_text(manifest.to_json())
    return weights


def parameters_in(folder: Path, kind: str = "weight") -> dict[str, torch.Tensor]:
    reader = PieceReader.alone([folder / name for name in read_manifest(folder).rank_files])
    return {name: reader.full(name, kind) for name in reader.wholes}
