import traceback

import numpy as np
import pytest

from pretrain import topology
from pretrain.config import DataConfig, load_config
from pretrain.data.arithmetic import Arithmetic
from pretrain.data.batches import Sampler
from pretrain.data.feed import BatchFeed
from tests.gang import run_gang


def serve(steps: int, parallel: dict) -> list[tuple[list, list, int]]:
    config = load_config(None, {"parallel": parallel, "model": {"layers": 2}})
    task = Arithmetic(DataConfig())
    with topology.start(config) as here:
        feed = BatchFeed(
            task, lambda t: t[:, ::-1], Sampler(len(task.train), 8, 3), here, 10, range(steps)
        )
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
    task = Arithmetic(DataConfig())
    with topology.start(load_config(None, {})) as here:
        feed = BatchFeed(
            task, lambda t: t[:, ::-1], Sampler(len(task.train), 4, 0), here, 10, range(1)
        )
        ((_, batch),) = feed
    text = [task.tokenizer.decode(row) for row in batch.tokens.numpy()]
    for line in text:
        a, b = line[:5].split("*")
        assert int(line[6:10][::-1]) == int(a) * int(b)


def test_an_error_in_the_thread_reaches_the_step_with_its_traceback():
    def broken_transform(target: np.ndarray) -> np.ndarray:
        raise RuntimeError("no such order")

    task = Arithmetic(DataConfig())
    with topology.start(load_config(None, {})) as here:
        feed = BatchFeed(task, broken_transform, Sampler(9, 4, 0), here, 10, range(5))
        with pytest.raises(RuntimeError, match="no such order") as caught:
            list(feed)
    assert "broken_transform" in "".join(traceback.format_exception(caught.value))
