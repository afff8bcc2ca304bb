"""The sharded table: the same to the last bit from any number of ranks, evenly spread."""

import pytest

from pretrain import topology
from pretrain.config import Config, load_config
from pretrain.data.arithmetic import Arithmetic
from pretrain.selection.counts import count
from pretrain.selection.estimators import ESTIMATORS
from tests.gang import run_gang
from tools.inspect_selection import inspect


def make_config(estimator: str, ranks: int, parallel: dict | None = None) -> Config:
    return load_config(
        None,
        {
            "selection": {"estimator": estimator, "chunk_tokens": 5000},
            "training": {"global_batch": ranks},
            "parallel": parallel or {},
        },
    )


def fit(estimator: str, ranks: int):
    config = make_config(estimator, ranks)
    with topology.start(config) as here:
        assert here.readers is not None
        selection = inspect(config, False, here.readers.rank, here.readers.group)
        task = Arithmetic(config.data)
        mine = task.train.shard(here.readers.rank, here.readers.size)
        slots = ESTIMATORS[estimator].slots(4)
        counts = count(mine.features, mine.target, slots, 10, here.readers.group, 5000)
    return (
        [value.hex() for value in selection.bits],
        selection.order,
        selection.fingerprint,
        selection.rows_per_rank,
        int(counts.table.sum()),
        counts.table.shape[0],
    )


@pytest.mark.distributed
def test_any_number_of_ranks_gives_the_same_bits_and_order():
    names = list(ESTIMATORS)
    expected = [results[0] for results in run_gang(1, [(fit, name, 1) for name in names])]
    for ranks in (2, 3, 4):
        found = run_gang(ranks, [(fit, name, ranks) for name in names])
        for single, results in zip(expected, found, strict=True):
            for rank, result in enumerate(results):
                assert result[:3] == single[:3]
                held = result[3]
                assert sum(held) == single[3][0]
                assert held[rank] == result[5] <= 1.1 * sum(held) / ranks
            # Every pair was counted once, on one rank.
            assert sum(result[4] for result in results) == single[4]


def share_out(parallel: dict) -> tuple[bool, tuple[int, ...], str]:
    from pretrain.training.job import build_task, fit_selection

    config = load_config(None, {"parallel": parallel, "run": {"progress": False}})
    with topology.start(config) as here:
        selection = fit_selection(config, here, build_task(config))
        return here.readers is not None, selection.rows_per_rank, selection.fingerprint


@pytest.mark.distributed
def test_only_readers_count_and_everybody_learns_the_result():
    results = run_gang(4, [(share_out, {"tensor": 2}), (share_out, {"pipeline": 2})])
    for per_rank in results:
        assert sorted(reads for reads, _, _ in per_rank) == [False, False, True, True]
        assert len({fingerprint for _, _, fingerprint in per_rank}) == 1
        assert {len(rows) for _, rows, _ in per_rank} == {2}
