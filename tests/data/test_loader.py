import os
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pretrain.config import load_config
from pretrain.data.batch import Rows, Sampler, packed, unpacked
from pretrain.data.loader import BatchFeed
from pretrain.distributed import topology
from pretrain.errors import ConfigError
from pretrain.tasks.arithmetic.config import ArithmeticData
from pretrain.tasks.arithmetic.data import Arithmetic
from pretrain.tasks.fixed_width.batches import ExampleBatches
from pretrain.testing.processes import call_on, run_gang


class Backwards:
    """A transform of targets."""

    def apply(self, target: np.ndarray) -> np.ndarray:
        return target[:, ::-1]


def feed_of(here: topology.Topology, transform, batch: int, steps: int, ahead: int = 2):
    task = Arithmetic(ArithmeticData())
    rank = 0 if here.readers is None else here.readers.rank
    source = ExampleBatches(
        task,
        Sampler(len(task.train), batch, 3),
        lambda step: SimpleNamespace(transform=transform),
        rank,
        here.data.size,
        10,
    )
    return BatchFeed(source, here, batch // here.data.size, 10, range(steps), ahead)


def serve(steps: int, parallel: dict) -> list[tuple[list, list, int]]:
    config = load_config(None, {"parallel": parallel, "model": {"layers": 2}})
    with topology.start(config) as here:
        feed = feed_of(here, Backwards(), 8, steps)
        return [
            (batch.tokens.tolist(), batch.labels.tolist(), batch.target_tokens) for _, batch in feed
        ]


@pytest.mark.distributed
def test_ranks_get_their_share_and_copies_get_the_same():
    whole = run_gang(1, [(serve, 3, {})])[0][0]
    tp, dp = run_gang(2, [(serve, 3, {"tensor": 2}), (serve, 3, {})])
    assert tp[0] == tp[1] == whole
    for step in range(3):
        assert dp[0][step][0] + dp[1][step][0] == whole[step][0]
        assert dp[0][step][2] == dp[1][step][2] == whole[step][2] == 8 * 4
    mixed = run_gang(4, [(serve, 3, {"pipeline": 2})])[0]
    assert mixed[0] == mixed[2] == dp[0]
    assert mixed[1] == mixed[3] == dp[1]


def test_targets_are_transformed():
    task = Arithmetic(ArithmeticData())
    with topology.start(load_config(None, {})) as here:
        feed = feed_of(here, Backwards(), 4, 1)
        ((_, batch),) = feed
    text = [task.tokenizer.decode(row) for row in batch.tokens.numpy()]
    for line in text:
        a, b = line[:5].split("*")
        assert int(line[6:10][::-1]) == int(a) * int(b)


def test_without_a_thread_the_batches_are_the_same():
    with topology.start(load_config(None, {})) as here:
        served = [
            [batch.tokens.tolist() for _, batch in feed_of(here, Backwards(), 8, 3, ahead)]
            for ahead in (0, 2)
        ]
    assert served[0] == served[1]


class Broken:
    """Works for two steps on every rank but one."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.calls = 0

    def apply(self, target: np.ndarray) -> np.ndarray:
        self.calls += 1
        if self.calls > 2 and int(os.environ.get("RANK", "0")) == self.rank:
            raise RuntimeError("no such order")
        return target


def test_an_error_in_the_thread_reaches_the_step_with_its_traceback():
    with (
        topology.start(load_config(None, {})) as here,
        pytest.raises(RuntimeError, match="no such order") as caught,
    ):
        list(feed_of(here, Broken(0), 4, 5))
    assert "in apply" in "".join(traceback.format_exception(caught.value))


def stop_at_an_error(path: str, parallel: dict) -> None:
    started = time.monotonic()
    rank = int(os.environ["RANK"])
    config = load_config(None, {"parallel": parallel})
    try:
        with topology.start(config) as here:
            list(feed_of(here, Broken(1), 8, 50))
    except BaseException:
        text = f"{time.monotonic() - started}\n{traceback.format_exc()}"
        Path(f"{path}-{rank}").write_text(text)
        os._exit(1)  # as an uncaught error ends a process


@pytest.mark.distributed
def test_an_error_in_the_thread_of_one_rank_stops_the_job_within_seconds(tmp_path):
    with pytest.raises(RuntimeError, match="died"):
        run_gang(2, [(stop_at_an_error, str(tmp_path / "log"), {})], timeout=60)
    deadline = time.monotonic() + 30
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    seconds, error = (tmp_path / "log-1").read_text().split("\n", 1)
    assert float(seconds) < 30
    assert "RuntimeError: no such order" in error
    assert "in apply" in error
    seconds, error = (tmp_path / "log-0").read_text().split("\n", 1)
    assert float(seconds) < 30
    assert "no such order" not in error


class Weighted:
    """Rows whose tokens have float weights and a second label of their own."""

    fields = ("weight", "second")

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def selection_at(self, step: int) -> None:
        return None

    def read(self, step: int, selector: None) -> Rows:
        generator = np.random.default_rng((step, self.rank))
        tokens = generator.integers(0, 9, (2, 5))
        weight = generator.random((2, 5), dtype=np.float32)
        mask = np.ones((2, 5), dtype=np.float32)
        second = generator.integers(-(2**40), 2**40, (2, 5))
        return Rows(tokens, tokens + 1, mask, None, {"weight": weight, "second": second})


def weighted_batches(parallel: dict) -> tuple[int, list[tuple]]:
    with topology.start(load_config(None, {"parallel": parallel})) as here:
        feed = BatchFeed(
            Weighted(here.reader_rank), here, 2, 5, range(2),
            fields={"weight": torch.float32, "second": torch.int64},
            count=lambda mask, fields: float(fields["weight"].sum(dtype=torch.float64)),
        )  # fmt: skip
        return here.data.rank, [
            (batch.tokens, batch.fields["weight"], batch.fields["second"], batch.target_tokens)
            for _, batch in feed
        ]


@pytest.mark.distributed
@pytest.mark.parametrize("parallel", [{"tensor": 2}, {"pipeline": 2}, {"tensor": 2, "pipeline": 2}])
def test_float_weights_reach_every_rank_as_they_are(parallel):
    ranks = 2 * int(np.prod(list(parallel.values())))
    for rank, batches in call_on(ranks, weighted_batches, parallel):
        for step, (tokens, weight, second, count) in enumerate(batches):
            rows = Weighted(rank).read(step, None)
            assert np.array_equal(tokens, rows.tokens)
            assert weight.dtype == torch.float32
            assert np.array_equal(weight, rows.fields["weight"])
            assert np.array_equal(second, rows.fields["second"])
            both = [Weighted(each).read(step, None).fields["weight"] for each in range(2)]
            assert count == pytest.approx(np.sum(both, dtype=np.float64))


def test_a_field_that_the_task_has_not_is_refused():
    with (
        topology.start(load_config(None, {})) as here,
        pytest.raises(ConfigError, match=r"objective\.name.*the field other.*weight, second"),
    ):
        BatchFeed(Weighted(0), here, 2, 5, range(2), fields={"other": torch.float32})


def test_nothing_is_lost_in_packing():
    layout = {"a": (torch.bool, (3,)), "b": (torch.float32, (3,)), "c": (torch.int64, (1, 2))}
    arrays = {"a": np.array([True, False, True]), "b": np.float32([0.1, -2.5, np.inf]),
              "c": np.array([[1, -(2**60)]])}  # fmt: skip
    found = unpacked(packed(arrays, layout), layout)
    for name, (dtype, _) in layout.items():
        assert found[name].dtype == dtype
        assert np.array_equal(found[name], arrays[name])
    for wrong in (np.float64([0.1, 0.2, 0.3]), np.float32([0.1, 0.2])):
        with pytest.raises(ValueError, match="the field b is float"):
            packed({**arrays, "b": wrong}, layout)
    with pytest.raises(ValueError, match="the field b is missing"):
        packed({name: arrays[name] for name in "ac"}, layout)
