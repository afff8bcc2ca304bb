import json
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pretrain.config import load_config
from pretrain.distributed import topology
from pretrain.errors import UserError
from pretrain.files import checksum
from pretrain.ragged import Documents, Examples, stream_of
from pretrain.selection.table import store as artifact
from pretrain.selection.table.counts import Pairs, count_pairs, window
from pretrain.selection.table.positions import PositionCounts, count_positions
from pretrain.testing.processes import run_gang
from tests.selection.brute_force import cells_of

MADE_FROM = {"corpus": "abc", "tokenizer": "words of size 50", "estimator": "pmi"}


def corpus(seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    return Examples(Documents.of([rng.integers(0, 50, 40) for _ in range(20)]))


def table(seed: int = 0, layout: str = "auto"):
    return count_pairs(stream_of(corpus(seed), 100), 50, 50, window(3), layout=layout)


@pytest.mark.parametrize("layout", ["dense", "sparse", "top_k"])
def test_a_table_comes_back_as_it_was(tmp_path, layout):
    top_k = 9 if layout == "top_k" else None
    counts = count_pairs(
        stream_of(corpus(0), 100), 50, 50, window(3, "left"), layout=layout, top_k=top_k
    )
    fingerprint = artifact.save(counts, tmp_path / "t", MADE_FROM, {"step": 7})
    loaded, manifest = artifact.load(tmp_path / "t")
    assert cells_of(loaded) == cells_of(counts)
    assert loaded.pairs == counts.pairs
    assert loaded.marginals.total == counts.marginals.total
    assert np.array_equal(loaded.marginals.columns, counts.marginals.columns)
    assert fingerprint == manifest.fingerprint == artifact.fingerprint_of(loaded)
    assert manifest.state == {"step": 7}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t"]


def test_a_table_of_positions_comes_back_and_can_be_added_to(tmp_path):
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, 4, (200, 2)), rng.integers(0, 4, (200, 3))
    counts = count_positions(source, target, [(0,), (0, 1)], 4)
    artifact.save(counts, tmp_path / "t", {})
    loaded, _ = artifact.load(tmp_path / "t")
    assert isinstance(loaded, PositionCounts)
    assert (loaded.slots, loaded.vocabulary, loaded.units) == (((0,), (0, 1)), 4, 3)
    loaded.counts.add(loaded.stream(source, target, 1000))
    twice = count_positions(np.tile(source, (2, 1)), np.tile(target, (2, 1)), [(0,), (0, 1)], 4)
    assert cells_of(loaded.counts) == cells_of(twice.counts)
    assert artifact.fingerprint_of(loaded) == artifact.fingerprint_of(twice)


def test_several_tables_are_loaded_as_their_sum(tmp_path):
    for seed in (0, 1):
        artifact.save(table(seed, ("dense", "sparse")[seed]), tmp_path / str(seed), {})
    both, _ = artifact.load([tmp_path / "0", tmp_path / "1"])
    assert cells_of(both) == cells_of(table(0)) + cells_of(table(1))
    artifact.save(count_pairs(stream_of(corpus(0), 9), 50, 50, window(2)), tmp_path / "other", {})
    with pytest.raises(UserError, match="its pairs are"):
        artifact.load([tmp_path / "0", tmp_path / "other"])


def test_the_fingerprint_tells_tables_apart():
    prints = {artifact.fingerprint_of(table(seed)) for seed in range(4)}
    assert len(prints) == 4
    assert artifact.fingerprint_of(table(0, "sparse")) == artifact.fingerprint_of(table(0))


def share_of(examples: Examples, rank: int, ranks: int) -> Examples:
    return Examples(examples.source.share(rank, ranks))


def save_or_load(path: str, saving: bool):
    with topology.start(load_config(None, {"training": {"global_batch": 12}})) as here:
        readers = here.readers
        assert readers is not None
        group = readers.group if readers.size > 1 else None
        if saving:
            mine = share_of(corpus(0), readers.rank, readers.size)
            counts = count_pairs(stream_of(mine, 100), 50, 50, window(3), group, layout="sparse")
            return artifact.save(counts, Path(path), MADE_FROM)
        counts, manifest = artifact.load(Path(path), group)
        return cells_of(counts), artifact.fingerprint_of(counts), manifest.fingerprint


@pytest.mark.distributed
def test_a_table_of_n_ranks_is_loaded_by_m(tmp_path):
    expected = cells_of(table(0))
    fingerprint = artifact.fingerprint_of(table(0))
    for n, m in ((3, 2), (2, 3), (2, 1)):
        path = str(tmp_path / f"{n}-{m}")
        assert run_gang(n, [(save_or_load, path, True)])[0] == [fingerprint] * n
        loaded = run_gang(m, [(save_or_load, path, False)])[0]
        assert sum((cells for cells, _, _ in loaded), type(expected)()) == expected
        assert {value for _, *prints in loaded for value in prints} == {fingerprint}


def test_another_corpus_or_tokenizer_is_refused_and_named(tmp_path):
    artifact.save(table(), tmp_path / "t", MADE_FROM)
    manifest = artifact.read_manifest(tmp_path / "t")
    manifest.check_made_from(MADE_FROM)
    with pytest.raises(UserError) as caught:
        manifest.check_made_from({**MADE_FROM, "tokenizer": "words of size 60"})
    message = str(caught.value)
    assert str(tmp_path / "t") in message
    assert (
        'tokenizer: the table\'s is "words of size 50", this run\'s "words of size 60"' in message
    )
    assert "tools.fit_selection" in message
    assert "corpus:" not in message


def test_a_shard_that_was_cut_short_or_changed_is_named(tmp_path):
    artifact.save(table(), tmp_path / "t", {})
    shard = tmp_path / "t" / "shard-00000-of-00001.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])
    with pytest.raises(UserError, match=rf"{shard.name} has [\d,]+ bytes, the manifest says"):
        artifact.load(tmp_path / "t")
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match=rf"{shard.name} was changed or damaged"):
        artifact.load(tmp_path / "t")
    shard.unlink()
    with pytest.raises(UserError, match=rf"{shard.name}: No such file"):
        artifact.load(tmp_path / "t")


def rewrite(path: Path, **changes: np.ndarray) -> None:
    """Change a shard's arrays and have the manifest agree, as somebody with bad intent would."""
    shard = path / "shard-00000-of-00001.safetensors"
    arrays = {**load_file(shard), **changes}
    save_file(arrays, shard)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["shards"] = [
        {"file": shard.name, "bytes": shard.stat().st_size, "sha256": checksum(shard)}
    ]
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "changes",
    [
        {"cols": np.array([10**6], np.int32)},
        {"rows": np.array([-1], np.int64)},
        {"start": np.array([5, 0], np.int64)},
        {"counts": np.array([10**9], np.int64)},
        {"counts": np.array([1.5])},
    ],
    ids=["column", "row", "start", "count", "kind"],
)
def test_values_that_would_write_outside_the_table_are_refused(tmp_path, changes):
    artifact.save(table(), tmp_path / "t", {})
    arrays = load_file(tmp_path / "t" / "shard-00000-of-00001.safetensors")
    for name, value in changes.items():
        spoiled = arrays[name].astype(value.dtype)
        spoiled[: len(value)] = value
        rewrite(tmp_path / "t", **{name: spoiled})
    with pytest.raises(UserError, match="holds no rows of this table"):
        artifact.load(tmp_path / "t")


def test_a_manifest_that_is_none_is_refused(tmp_path):
    artifact.save(table(), tmp_path / "t", {})
    file = tmp_path / "t" / "manifest.json"
    values = json.loads(file.read_text())
    for text, message in (
        ("{", "cannot be read"),
        ("[]", "has format list"),
        (json.dumps({**values, "format": 99}), "has format 99, expected 1"),
        (json.dumps({k: v for k, v in values.items() if k != "shards"}), "lacks shards"),
        (
            json.dumps({**values, "shards": [{"file": "../x", "bytes": 1, "sha256": ""}]}),
            "outside its folder",
        ),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=message):
            artifact.load(tmp_path / "t")
    with pytest.raises(UserError, match="holds no selection table"):
        artifact.load(tmp_path / "nowhere")


def test_a_folder_that_is_there_is_not_written_over(tmp_path):
    first = artifact.save(table(0), tmp_path / "t", {})
    with pytest.raises(UserError, match="is there already"):
        artifact.save(table(1), tmp_path / "t", {})
    assert artifact.read_manifest(tmp_path / "t").fingerprint == first
    second = artifact.save(table(1), tmp_path / "t", {}, replace=True)
    assert artifact.read_manifest(tmp_path / "t").fingerprint == second != first
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_a_full_disk_leaves_what_was_there(tmp_path):
    first = artifact.save(table(0), tmp_path / "t", {})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))
    try:
        with pytest.raises(UserError, match=r"could not be written: .*free some space"):
            artifact.save(table(1), tmp_path / "t", {}, replace=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert artifact.load(tmp_path / "t")[1].fingerprint == first
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_a_full_file_system_is_named(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system takes root")
    try:
        with pytest.raises(UserError, match="No space left on device"):
            artifact.save(table(0), tmp_path / "t", {})
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def lose_a_rank(path: str):
    """Rank 1 is killed while it reads; the others say what they saw, and how fast."""
    with topology.start(load_config(None, {"training": {"global_batch": 3}})) as here:
        readers = here.readers
        assert readers is not None
        passes = 0

        def stream():
            nonlocal passes
            passes += 1
            for number, chunk in enumerate(corpus(0).chunks(40)):
                if readers.rank == 1 and passes == 2 and number == 3:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield chunk

        started = time.monotonic()
        try:
            counts = count_pairs(stream, 50, 50, window(3), readers.group)
            artifact.save(counts, Path(path), {})
        except UserError as error:
            Path(f"{path}-{readers.rank}").write_text(f"{time.monotonic() - started}\n{error}")
            os._exit(2)


@pytest.mark.distributed
def test_a_rank_killed_during_the_fit_is_told_of_within_seconds(tmp_path):
    path = tmp_path / "t"
    with pytest.raises(RuntimeError, match="died"):
        run_gang(3, [(lose_a_rank, str(path))], timeout=60)
    for rank in (0, 2):
        seconds, message = Path(f"{path}-{rank}").read_text().split("\n", 1)
        assert float(seconds) < 20
        assert f"rank {rank} of the 3 ranks" in message
        assert "lost another one" in message
    assert not path.exists()


def one_rank_cannot_write(path: str):
    with topology.start(load_config(None, {"training": {"global_batch": 2}})) as here:
        readers = here.readers
        assert readers is not None
        mine = share_of(corpus(0), readers.rank, 2)
        counts = count_pairs(stream_of(mine, 100), 50, 50, window(3), readers.group)
        if readers.rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            artifact.save(counts, Path(path), {})
        except UserError as error:
            return str(error)


@pytest.mark.distributed
def test_if_one_rank_cannot_write_no_table_is_left(tmp_path):
    found = run_gang(2, [(one_rank_cannot_write, str(tmp_path / "t"))])[0]
    assert "rank 1 of the 2 ranks" in found[0]
    assert "writing its rows" in found[0]
    assert "could not be written" in found[1]
    assert list(tmp_path.iterdir()) == []


def test_presence_tables_keep_their_rule(tmp_path):
    labels = Documents.of([[0], [1], [0, 1]])
    examples = Examples(Documents.of([[0, 0], [1], [2]]), labels)
    counts = count_pairs(stream_of(examples, 10), 3, 2, Pairs(presence=True))
    artifact.save(counts, tmp_path / "t", {})
    loaded, _ = artifact.load(tmp_path / "t")
    assert loaded.pairs == Pairs(presence=True)
    assert loaded.marginals.total == 3
