import json

import pytest

from pretrain.config import load_config
from tools.bench.train_step import main, summary


def test_ratios_are_medians_within_rounds():
    config = load_config(
        None,
        {
            "model": {"sequence_length": 10},
            "training": {"global_batch": 4},
            "run": {"device": "cpu"},
        },
    )
    seconds = {
        "ours": [1.0, 2.0, 4.0],
        "plain_pytorch": [2.0, 3.0, 4.0],
        "plain_pytorch_kept_memory": [1.0, 2.0, 2.0],
    }
    found = summary(config, seconds, 1)
    assert found["ratio"] == {"plain_pytorch": 1.5, "plain_pytorch_kept_memory": 1.0}
    assert found["ratio_range"]["plain_pytorch"] == [1.0, 2.0]
    assert found["tokens_per_second"]["ours"] == 20.0


@pytest.mark.distributed
def test_it_runs_and_prints_json(capsys):
    small = ["--model.layers", "1", "--model.hidden_size", "32", "--model.attention_heads", "4"]
    small += ["--model.sequence_length", "16", "--model.vocabulary_size", "64"]
    assert main(["--json", "--rounds", "2", "--run.device", "cpu", *small]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ratio"]["plain_pytorch"] > 0
    assert found["rounds"] == 2
