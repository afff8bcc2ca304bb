"""Trainings in stretches, each in processes of its own, with checkpoints between them."""

from __future__ import annotations

from pathlib import Path

import torch

from pretrain.config import Config, load_config
from pretrain.distributed import topology
from tests.distributed.layouts import VOCABULARY

Trace = list[tuple[float, float]]


def batch_at(step: int, config: Config, here: topology.Topology):
    """The batch of a step, whatever the layout."""
    from pretrain.data.batch import Batch

    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(0, VOCABULARY, (16, 17), generator=generator)
    mask = (torch.rand(16, 16, generator=generator) < 0.7).float()
    share = 16 // here.data.size
    mine = slice(here.data.rank * share, (here.data.rank + 1) * share)
    return Batch(
        tokens[mine, :-1].contiguous(), tokens[mine, 1:].contiguous(), mask[mine], int(mask.sum())
    )


def manifest_of(config: Config, engine):
    from pretrain.optimizers.base import updates_of
    from pretrain.training.checkpoint.manifest import Manifest

    return Manifest(
        step=engine.steps,
        tokens=0,
        updates=updates_of(engine.built),
        layout=engine.topology.describe(),
        fingerprint="",
        config=config.model_dump(mode="json"),
        finished="",
        state={"vocabulary": VOCABULARY, **engine.small_state()},
    )


def stretch(config: Config, folder: Path, until: int, save: bool = True) -> Trace:
    """Go on from the newest checkpoint in `folder`, if any, to step `until`; loss and gradient norm
    of each step."""
    with topology.start(config) as here:
        from pretrain.model.gpt import build
        from pretrain.training.checkpoint.resume import find
        from pretrain.training.checkpoint.store import CheckpointStore
        from pretrain.training.engine import Engine

        store = CheckpointStore(folder, config.checkpoint, here, 60.0)
        engine = Engine(config, here, build(config, here, VOCABULARY))
        found, skipped = find(store, config)
        assert not skipped
        if found:
            store.load(found.folder, found.manifest, engine)
        trace = []
        for step in range(engine.steps, until):
            result = engine.train_step(batch_at(step, config, here), 1e-2)
            trace.append((engine.mean_loss(result), float(result.grad_norm)))
        if save:
            store.save(engine, manifest_of(config, engine), None)
            store.wait()
            assert store.problem() is None
        return trace


def state_in(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """Every parameter and moment of a checkpoint, undivided."""
    from pretrain.optimizers.base import optimizer_of
    from pretrain.training.checkpoint.manifest import folder_name, read_manifest
    from pretrain.training.checkpoint.tensor_files import PieceReader
    from pretrain.training.checkpoint.tensor_index import WEIGHT

    path = folder / folder_name(step)
    manifest = read_manifest(path)
    reader = PieceReader.alone([path / name for name in manifest.rank_files])
    kinds = (WEIGHT, *optimizer_of(load_config(None, manifest.config)).state)
    return {f"{name} {kind}": reader.full(name, kind) for name in reader.wholes for kind in kinds}
