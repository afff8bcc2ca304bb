"""Checkpoints that are incomplete, damaged or made to harm."""

import json
import pickle
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pretrain.model.slices import join_slices, take_slice
from pretrain.optimizers.adamw import AdamW
from pretrain.training.checkpoint.manifest import (
    CheckpointError,
    Manifest,
    check_files,
    file_of,
    newest_first,
    read_manifest,
)
from pretrain.training.checkpoint.tensor_files import WHOLES, Copy, PieceReader
from pretrain.training.checkpoint.tensor_index import WEIGHT, Shard, Whole
from tools import inspect_checkpoint

KINDS = (WEIGHT, *AdamW.state)

NAME = "decoder.layers.0.mlp.linear_fc1.weight"


def shard(whole: Whole, full: dict[str, torch.Tensor], rank: int, size: int, start: int, end: int):
    def part(kind: str) -> torch.Tensor:
        if whole.dimension is None:
            return full[kind].flatten()[start:end].clone()
        sliced = take_slice(full[kind], whole.dimension, whole.stride, rank, size)
        return sliced.flatten()[start:end].clone()

    parts = {kind: part(kind) for kind in KINDS}
    return Shard(whole, rank, size, start, parts)


def write(folder: Path, ranks: int = 2) -> dict[str, torch.Tensor]:
    """A checkpoint of one gated matrix, split over two tensor ranks in uneven ranges."""
    folder.mkdir(parents=True)
    whole = Whole(NAME, (8, 3), 0, 2)
    full = {kind: torch.randn(8, 3) for kind in KINDS}
    files = {}
    for rank in range(ranks):
        pieces = [shard(whole, full, rank, 2, 0, 5), shard(whole, full, rank, 2, 5, 12)]
        path = folder / f"rank-{rank:05d}-of-00002.safetensors"
        Copy.of(pieces).write(path)
        files[path.name] = file_of(path)
    manifest = Manifest(7, 70, 7, "two", "abc", {}, "now", {"vocabulary": 8}, files)
    (folder / "manifest.json").write_text(manifest.to_json())
    return full


def reader_of(folder: Path) -> PieceReader:
    return PieceReader.alone([folder / name for name in read_manifest(folder).rank_files])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dimension", [0, 1])
def test_slices_put_together_are_the_whole(dimension, stride):
    full = torch.randn(8, 12)
    slices = [take_slice(full, dimension, stride, rank, 2) for rank in range(2)]
    assert torch.equal(join_slices(slices, dimension, stride), full)


def test_any_range_of_any_split_is_read_back(tmp_path):
    full = write(tmp_path / "step-00000007")
    reader = reader_of(tmp_path / "step-00000007")
    whole = Whole(NAME, (8, 3), 0, 2)
    for size, start, end in ((1, 0, 24), (1, 3, 20), (2, 0, 12), (2, 4, 9), (4, 1, 6)):
        for rank in range(size):
            wanted = shard(whole, full, rank, size, start, end)
            empty = replace(wanted, parts={k: torch.zeros_like(v) for k, v in wanted.parts.items()})
            reader.fill(empty)
            assert all(torch.equal(empty.parts[kind], wanted.parts[kind]) for kind in KINDS)
    assert torch.equal(reader.full(NAME, "exp_avg"), full["exp_avg"])


def test_a_part_that_is_missing_is_named(tmp_path):
    write(tmp_path / "step-00000007", ranks=1)
    with pytest.raises(CheckpointError, match=f"lacks a part of {NAME}, weight"):
        reader_of(tmp_path / "step-00000007").full(NAME)


def test_another_model_is_refused(tmp_path):
    full = write(tmp_path / "step-00000007")
    reader = reader_of(tmp_path / "step-00000007")
    wider = shard(Whole(NAME, (8, 3), 0, 2), full, 0, 1, 0, 24)
    with pytest.raises(CheckpointError, match=r"is \[8, 3\] in the checkpoint and \[8, 4\] in"):
        reader.fill(replace(wider, whole=Whole(NAME, (8, 4), 0, 2)))
    with pytest.raises(CheckpointError, match="has no parameter other; it is of another model"):
        reader.fill(replace(wider, whole=Whole("other", (8, 3), 0, 2)))


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def link(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize(
    "harm,message",
    [
        (shorten, "bytes, .* were written"),
        (flip, "checksum differs"),
        (link, "is a link"),
        (Path.unlink, "No such file"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, harm, message):
    folder = tmp_path / "step-00000007"
    write(folder)
    check_files(folder, read_manifest(folder))
    path = folder / "rank-00001-of-00002.safetensors"
    harm(path)
    with pytest.raises(CheckpointError, match=f"{path}: .*{message}"):
        check_files(folder, read_manifest(folder))


@pytest.mark.parametrize(
    "content,message",
    [
        (None, "incomplete, it has no manifest.json"),
        ("{", "cannot be read"),
        ("[]", "is not a checkpoint's manifest"),
        ('{"format": 9}', "format 9, this version reads 1"),
        ('{"format": 1, "files": {}}', "is not a checkpoint's manifest"),
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "a/b/c", ".hidden", ""])
def test_a_manifest_that_names_files_elsewhere_is_refused(tmp_path, name):
    folder = tmp_path / "step-00000007"
    write(folder)
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    values["files"][name] = {"bytes": 1, "sha256": ""}
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="is not a file of its folder"):
        read_manifest(folder)


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("harmed"),))


def huge_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 40) + b"{}")


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Payload()))


def unnamed(path: Path) -> None:
    save_file({"x": torch.zeros(1)}, path)


def odd_key(path: Path) -> None:
    save_file({"x|weight|0of1": torch.zeros(1)}, path, metadata={WHOLES: "{}"})


@pytest.mark.parametrize("harm", [huge_header, pickled, unnamed, odd_key])
def test_a_file_that_is_no_checkpoint_is_refused_and_nothing_in_it_runs(
    tmp_path, monkeypatch, harm
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "rank.safetensors"
    harm(path)
    with pytest.raises(CheckpointError, match="is not a file of a checkpoint"):
        PieceReader.alone([path])
    assert not (tmp_path / "harmed").exists()


def test_tensors_of_other_types_and_lengths_are_refused(tmp_path):
    path = tmp_path / "rank.safetensors"
    wholes = json.dumps({"x": [[4], None, 1]})
    keys = {"x|weight|0of1|0": torch.zeros(4, dtype=torch.float64)}
    save_file(keys, path, metadata={WHOLES: wholes})
    with pytest.raises(CheckpointError, match=r"is torch.float64 \[4\], expected float32"):
        PieceReader.alone([path]).full("x")


def test_checkpoints_are_listed_the_newest_first_and_nothing_else(tmp_path):
    for name in ("step-00000002", "step-00000010", ".step-00000011.partial", "step-x", "notes"):
        (tmp_path / name).mkdir()
    assert [path.name for path in newest_first(tmp_path)] == ["step-00000010", "step-00000002"]


def test_a_run_is_inspected(tmp_path, capsys):
    checkpoints = tmp_path / "checkpoints"
    write(checkpoints / "step-00000007")
    assert inspect_checkpoint.main([str(tmp_path)]) == 0
    assert "7 steps, 7 updates, 70 tokens" in capsys.readouterr().out
    (checkpoints / "step-00000008").mkdir()
    flip(checkpoints / "step-00000007" / "rank-00000-of-00002.safetensors")
    assert inspect_checkpoint.main([str(tmp_path), "--no-checksums", "--json"]) == 1
    quick = json.loads(capsys.readouterr().out)
    assert [one.get("step") for one in quick] == [7, None]
    assert inspect_checkpoint.main([str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "checksum differs" in said
    assert "incomplete" in said
    assert inspect_checkpoint.main([str(tmp_path / "nowhere")]) == 2
    assert "holds no checkpoints" in capsys.readouterr().err
