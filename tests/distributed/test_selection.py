"""The sharded table: the same to the last bit from any number of ranks, evenly spread."""

from collections import Counter

import numpy as np
import pytest

from pretrain.config import Config, load_config
from pretrain.data.batch import Sampler
from pretrain.distributed import topology
from pretrain.ragged import Documents, Examples, stream_of
from pretrain.selection.estimators.information import (
    ESTIMATORS,
    mutual_information,
    presence_information,
)
from pretrain.selection.estimators.pointwise import Pointwise, Scorer
from pretrain.selection.table import traffic
from pretrain.selection.table.counts import Pairs, count_pairs, empty_counts, window
from pretrain.selection.table.positions import count_positions
from pretrain.tasks.arithmetic.data import Arithmetic
from pretrain.testing.processes import run_gang
from tests.selection.brute_force import brute_force, cells_of, random_examples
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
        selection = inspect(config, False, here.readers.group)
        task = Arithmetic(config.data)
        mine = task.train.shard(here.readers.rank, here.readers.size)
        slots = ESTIMATORS[estimator].slots(4)
        table = count_positions(
            mine.features, mine.target, slots, 10, here.readers.group, 5000
        ).counts.table
    return (
        [value.hex() for value in selection.bits],
        selection.order,
        selection.fingerprint,
        selection.rows_per_rank,
        int(table.cells()[2].sum()),
        table.rows,
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


RULES = (window(3), window(2, "left"), window(4, "right"), Pairs(), Pairs(presence=True))


def part_of(examples: Examples, rank: int, ranks: int) -> Examples:
    """Every `ranks`-th example, so that some ranks have none."""
    chosen = range(rank, len(examples), ranks)
    source = Documents.of([examples.source.between(d, d + 1).tokens for d in chosen])
    if examples.target is None:
        return Examples(source)
    return Examples(
        source, Documents.of([examples.target.between(d, d + 1).tokens for d in chosen])
    )


def count_many(seeds: range):
    """Cells, MI, label information and scores of random corpora."""
    results = []
    with topology.start(load_config(None, {"training": {"global_batch": 12}})) as here:
        readers = here.readers
        assert readers is not None
        group = readers.group if readers.size > 1 else None
        for seed in seeds:
            rule = RULES[seed % len(RULES)]
            with_target = seed % 3 == 0 and rule.before is None
            layout = ("dense", "sparse")[seed % 2]
            examples = random_examples(seed, 9, 7, with_target)
            columns = 7 if with_target else 9
            rows = 9
            mine = part_of(examples, readers.rank, readers.size)
            counts = count_pairs(
                stream_of(mine, 1 + seed % 40), rows, columns, rule, group, layout=layout
            )
            numbers = []
            if counts.marginals.total:
                if not rule.presence:
                    numbers += mutual_information(counts, "shrinkage").ravel().tolist()
                else:
                    numbers += presence_information(counts).tolist()
                    numbers += presence_information(counts, "top", 3).tolist()
                scores = Scorer(counts, Pointwise(minimum_count=1))(mine.source, mine.target)
                ids = range(readers.rank, len(examples), readers.size)
                parts = np.split(scores, (mine.target or mine.source).offsets[1:-1])
                scored = {d: part.tolist() for d, part in zip(ids, parts, strict=False)}
            else:
                scored = {}
            results.append((cells_of(counts), numbers, scored, counts.marginals.total))
    return results


@pytest.mark.distributed
def test_random_corpora_are_counted_and_scored_alike_by_one_to_four_ranks():
    seeds = range(60)
    single = None
    for ranks in (1, 2, 3, 4):
        everyone = run_gang(ranks, [(count_many, seeds)])[0]
        for seed in seeds:
            rule = RULES[seed % len(RULES)]
            with_target = seed % 3 == 0 and rule.before is None
            examples = random_examples(seed, 9, 7, with_target)
            cells: Counter = sum((everyone[rank][seed][0] for rank in range(ranks)), Counter())
            assert cells == brute_force(examples, rule), seed
            # No cell lives on two ranks.
            assert sum(len(everyone[rank][seed][0]) for rank in range(ranks)) == len(cells)
        numbers = [[results[seed][1] for results in everyone] for seed in seeds]
        scores = [
            {d: s for results in everyone for d, s in results[seed][2].items()} for seed in seeds
        ]
        if single is None:
            single = ([n[0] for n in numbers], scores)
        assert all(n == [one] * ranks for n, one in zip(numbers, single[0], strict=True))
        assert scores == single[1]


def broken_stream(bad_rank: int):
    with topology.start(load_config(None, {"training": {"global_batch": 3}})) as here:
        readers = here.readers
        assert readers is not None
        good = Examples(Documents.of([[0, 1, 2]] * 10))

        def stream():
            yield from good.chunks(5)
            if readers.rank == bad_rank:
                raise OSError("disk on fire")

        try:
            count_pairs(stream, 3, 3, window(1), readers.group)
        except Exception as error:
            return type(error).__name__, str(error)


@pytest.mark.distributed
def test_a_rank_that_fails_to_read_stops_the_others_at_once():
    found = run_gang(3, [(broken_stream, 1)], timeout=60)[0]
    assert found[1] == ("OSError", "disk on fire")
    for rank in (0, 2):
        assert found[rank][0] == "UserError"
        assert "rank 1 of the 3 ranks" in found[rank][1]
        assert "reading its examples" in found[rank][1]


def measured_traffic(tokens: int, documents: int, vocabulary: int):
    """Bytes that the kernel says were sent, and those that the formula says."""
    with topology.start(load_config(None, {"training": {"global_batch": 12}})) as here:
        readers = here.readers
        assert readers is not None
        rng = np.random.default_rng(readers.rank)
        length = tokens // documents
        mine = Documents.from_rows(rng.integers(0, 50, (documents, length)))
        counts = count_pairs(
            stream_of(Examples(mine), tokens), vocabulary, vocabulary, window(2), readers.group,
            layout="sparse",
        )  # fmt: skip
        scorer = Scorer(counts, Pointwise())
        scorer(mine)  # connections are made at the first message
        before = traffic.sent_bytes()
        scorer(mine)
        query = traffic.sent_bytes() - before
        again = empty_counts(counts.marginals, counts.pairs, readers.group)
        before = traffic.sent_bytes()
        again.count(stream_of(Examples(mine), tokens))
        count = traffic.sent_bytes() - before
    work = traffic.Work(tokens, documents, vocabulary, readers.size)
    return query, traffic.query_bytes(work), count, traffic.count_bytes(work)


@pytest.mark.distributed
@pytest.mark.parametrize("ranks", [2, 4])
def test_the_bytes_sent_are_those_of_the_formula(ranks):
    calls = [
        (measured_traffic, 2048, 64, 8192),
        (measured_traffic, 2048, 64, 100_000),
        (measured_traffic, 64_000, 100, 8192),
    ]
    for per_rank in run_gang(ranks, calls):
        for query, query_formula, count, count_formula in per_rank:
            assert query == query_formula
            assert count == count_formula


def share_out(parallel: dict) -> tuple[bool, tuple[int, ...], str]:
    from pretrain.selection.schedule import SelectionSchedule

    config = load_config(None, {"parallel": parallel, "run": {"progress": False}})
    with topology.start(config) as here:
        task = config.data.build(config)
        sampler = Sampler(task.examples, 4, 0)
        selection = SelectionSchedule(config, here, task.fitter, sampler).current.selection
        return here.readers is not None, selection.rows_per_rank, selection.fingerprint


@pytest.mark.distributed
def test_only_readers_count_and_everybody_learns_the_result():
    results = run_gang(4, [(share_out, {"tensor": 2}), (share_out, {"pipeline": 2})])
    for per_rank in results:
        assert sorted(reads for reads, _, _ in per_rank) == [False, False, True, True]
        assert len({fingerprint for _, _, fingerprint in per_rank}) == 1
        assert {len(rows) for _, rows, _ in per_rank} == {2}
