import json

import pytest
import torch

from pretrain.config import load_config
from tools.bench import train_step
from tools.bench.interleaved import Memory
from tools.bench.plain_gpt import PlainGPT, PlainTrainer
from tools.bench.train_step import KINDS, changed, chosen, main, summary, table

SMALL = ["--model.layers", "1", "--model.hidden_size", "32", "--model.attention_heads", "4"]
SMALL += ["--model.sequence_length", "16", "--model.vocabulary_size", "64"]
SMALL += ["--run.device", "cpu", "--rounds", "2"]


def known_seconds() -> dict:
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
        "zero_1": [1.1, 2.2, 4.4],
        "bare": [1.0, 1.6, 4.0],
        "plain_pytorch": [2.0, 3.0, 4.0],
        "plain_pytorch_kept_memory": [1.0, 2.0, 2.0],
    }
    cpu = {name: [2 * s for s in taken] for name, taken in seconds.items()}
    cpu["bare"] = [1.0, 2.0, 4.0]
    memory = dict.fromkeys(seconds, Memory(500.0, 200.0, None))
    return summary(config, seconds, cpu, memory, 1)


def test_ratios_are_medians_within_rounds():
    found = known_seconds()
    assert found["ratio"] == {
        "bare": 1.0,
        "plain_pytorch": 1.5,
        "plain_pytorch_kept_memory": 1.0,
    }
    assert found["ratio_range"]["plain_pytorch"] == [1.0, 2.0]
    assert found["tokens_per_second"]["ours"] == 20.0
    assert found["cpu_ratio"]["bare"] == 0.5


def test_overhead_is_over_the_bare_loop():
    found = known_seconds()
    assert found["overhead"] == {"ours": 0.0, "zero_1": pytest.approx(0.1)}
    assert found["cpu_overhead"]["ours"] == 1.0


def test_the_table_holds_every_side():
    text = table(known_seconds())
    for name in ("ours", "zero_1", "plain_pytorch_kept_memory"):
        assert f"  {name} " in text
    assert "zero_1 over bare: +10.0% seconds" in text


def test_fields_change_one_by_one():
    config = load_config(None, {"model": {"layers": 6, "hidden_size": 64}})
    other = changed(config, {"model": {"layers": 3}, "parallel": {"zero_stage": 1}})
    assert (other.model.layers, other.model.hidden_size) == (3, 64)
    assert other.parallel.zero_stage == 1


def test_a_side_without_its_package_is_left_out_with_a_line(monkeypatch, capsys):
    monkeypatch.setattr(train_step, "missing", lambda packages: list(packages))
    assert chosen(["ours", "lightning"]) == ["ours"]
    assert "lightning is left out: lightning not installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv,parts",
    [
        (["--sides", "ours,theirs"], ["unknown side theirs", "plain_pytorch"]),
        (["--model.dropout", "0.1"], ["model.dropout 0.1"]),
        (["--parallel.tensor", "2"], ["parallel.tensor 2"]),
    ],
)
def test_what_cannot_be_compared_is_refused(argv, parts, capsys):
    assert main(argv) == 2
    said = capsys.readouterr().err
    for part in ("error: ", *parts):
        assert part in said


@pytest.mark.parametrize("preset", ["gpt2", "llama"])
def test_plain_models_have_as_many_parameters_as_ours(preset):
    from pretrain.model.flops import model_cost

    config = load_config(None, {"model": {"preset": preset, "kv_heads": 2, "vocabulary_size": 64}})
    if preset == "gpt2":
        config = changed(config, {"model": {"kv_heads": 4}})
    plain = PlainGPT(config, 64)
    assert sum(p.numel() for p in plain.parameters()) == model_cost(config.model, 64).parameters


@pytest.mark.parametrize("preset", ["gpt2", "llama"])
def test_hugging_faces_models_have_as_many_parameters_as_ours(preset):
    pytest.importorskip("transformers")
    from pretrain.model.flops import model_cost
    from tools.bench.hugging_face import model_of

    config = load_config(None, {"model": {"preset": preset, "vocabulary_size": 64}})
    theirs = sum(p.numel() for p in model_of(config).parameters())
    assert theirs == model_cost(config.model, 64).parameters


def test_micro_batches_give_the_step_of_the_whole_batch():
    settings = {"model": {"vocabulary_size": 64}, "training": {"global_batch": 4}}
    whole = load_config(None, settings)
    tokens = torch.randint(0, 64, (4, 16), generator=torch.Generator().manual_seed(0))
    weights = []
    for config in (whole, changed(whole, {"training": {"micro_batch": 2}})):
        torch.manual_seed(0)
        plain = PlainTrainer(config, 64, torch.device("cpu"))
        plain.step(tokens, tokens)
        weights.append(plain.model.head.weight.detach())
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)


@pytest.mark.distributed
def test_all_sides_run_and_print_json(capsys):
    micro = ["--training.micro_batch", "2"]
    assert main(["--json", "--threads", "1", *micro, *SMALL]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["tokens_per_second"]) == set(chosen(list(KINDS))) - {"compiled"}
    assert found["ratio"]["plain_pytorch"] > 0
    assert (found["rounds"], found["threads"]) == (2, 1)
    for held in found["memory_mib"].values():
        assert held["peak"] >= held["before_model"] > 0


@pytest.mark.distributed
def test_the_llama_preset_is_compared_with_llamas(capsys):
    sides = "ours,plain_pytorch,hugging_face"
    grouped = ["--model.preset", "llama", "--model.kv_heads", "2"]
    assert main(["--json", "--sides", sides, *grouped, *SMALL]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["preset"] == "llama"
    assert set(found["tokens_per_second"]) == set(chosen(sides.split(",")))
