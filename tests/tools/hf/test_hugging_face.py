"""Models of ours and of transformers compute the same, in both directions."""

import json

import pytest
import torch
import yaml

from pretrain.testing.processes import call_on
from tests.distributed.layouts import Layout, make_config
from tests.tools.hf.models import LLAMA, SIZES, config_of, parameters_in, save
from tests.training.checkpoint.stretches import batch_at, stretch
from tools import export_hf, import_hf
from tools.hf.own_model import own_model
from tools.hf.settings import config_json
from tools.hf.trained import Trained

MODELS = {
    "gpt2": {},
    "gpt2 untied": {"tie_embeddings": False},
    "gpt2 tanh": {"gelu": "tanh", "ffn_size": 40},
    "gpt2 grouped": {"kv_heads": 2},
    "llama": LLAMA,
    "llama tied": {**LLAMA, "tie_embeddings": True, "rope_base": 500},
    "llama one key": {**LLAMA, "kv_heads": 1},
    "llama ungrouped": {"preset": "llama"},
}


def theirs(folder):
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()


def run_file(path, model, **sections):
    """A run's YAML."""
    path.write_text(yaml.safe_dump({"model": model, **sections}))
    return path


@pytest.mark.parametrize("name", list(MODELS))
def test_logits_are_those_of_transformers(name, tmp_path):
    save(tmp_path / "checkpoint", config_of(MODELS[name]))
    trained = Trained.read(tmp_path / "checkpoint")
    export_hf.export(trained, tmp_path / "out")
    tokens = torch.randint(0, 24, (3, 16), generator=torch.Generator().manual_seed(1))
    with own_model(trained) as model:
        ours = model.logits(tokens)
    with torch.no_grad():
        found = theirs(tmp_path / "out")(tokens).logits
    assert found.shape == (3, 16, 24)  # of which the tokenizer has 15
    assert ours.std() > 0.1
    torch.testing.assert_close(found, ours, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in MODELS if "grouped" not in name])
def test_a_round_trip_gives_the_same_weights_to_the_bit(name, tmp_path):
    weights = save(tmp_path / "checkpoint", config_of(MODELS[name]))
    trained = Trained.read(tmp_path / "checkpoint")
    export_hf.export(trained, tmp_path / "out", shard_bytes=20_000)
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 1
    config = run_file(tmp_path / "run.yaml", {"dropout": 0.1, "sequence_length": 16})
    import_hf.bring_in(tmp_path / "out", config, tmp_path / "in")
    found = parameters_in(tmp_path / "in")
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[each], weights[each]) for each in weights)
    for kind in ("exp_avg", "exp_avg_sq"):
        assert not any(moment.any() for moment in parameters_in(tmp_path / "in", kind).values())
    section = yaml.safe_load((tmp_path / "in" / "config.yaml").read_text())["model"]
    expected = trained.config.model
    for field in ("preset", "layers", "hidden_size", "rope_base", "gelu", "sequence_length"):
        assert section[field] == getattr(expected, field)
    assert section["ffn_size"] == expected.ffn_width
    assert section["tie_embeddings"] == expected.tied
    assert (section["dropout"], section["vocabulary_size"]) == (0.1, 24)


def test_in_bfloat16_weights_are_rounded(tmp_path):
    weights = save(tmp_path / "checkpoint", config_of())
    command = ["--checkpoint", str(tmp_path / "checkpoint"), "--out", str(tmp_path / "out")]
    assert export_hf.main([*command, "--dtype", "bfloat16"]) == 0
    table = theirs(tmp_path / "out").transformer.wte.weight
    assert table.dtype == torch.bfloat16
    assert torch.equal(table, weights["embedding.word_embeddings.weight"].bfloat16())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_a_gpt2_that_transformers_wrote_is_imported(prefix, tied, tmp_path):
    from safetensors.torch import load_file, save_file
    from transformers import GPT2Config, GPT2LMHeadModel

    values = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 12, "vocab_size": 29}
    model = GPT2LMHeadModel(GPT2Config(**values, tie_word_embeddings=tied)).eval()
    model.save_pretrained(tmp_path / "hf")
    path = tmp_path / "hf" / "model.safetensors"
    tensors = {
        key.replace("transformer.", prefix, 1): value for key, value in load_file(path).items()
    }
    assert ("lm_head.weight" in tensors) is not tied
    # As the hub's GPT-2, which has its masks too.
    save_file({**tensors, f"{prefix}h.0.attn.bias": torch.ones(1, 1, 12, 12)}, path)
    config = run_file(tmp_path / "run.yaml", {"sequence_length": 16})
    import_hf.bring_in(tmp_path / "hf", config, tmp_path / "in")
    found = parameters_in(tmp_path / "in")
    table, old = found["embedding.word_embeddings.weight"], model.transformer.wte.weight.detach()
    assert torch.equal(table[:29], old)
    assert table.shape == (32, 16)
    torch.testing.assert_close(table[29:], old.mean(dim=0).expand(3, -1))
    section = yaml.safe_load((tmp_path / "in" / "config.yaml").read_text())["model"]
    assert (section["sequence_length"], section["gelu"]) == (12, "tanh")
    assert section["tie_embeddings"] is tied
    if not tied:
        assert torch.equal(found["output_layer.weight"][:29], model.lm_head.weight.detach())


def masked_loss(model, step):
    """transformers' loss on a batch of stretches."""
    whole = type("Data", (), {"data": type("Axis", (), {"rank": 0, "size": 1})})
    batch = batch_at(step, None, whole)
    with torch.no_grad():
        logits = model(batch.tokens).logits
    nats = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.labels.flatten(), reduction="none"
    )
    return float((nats * batch.mask.flatten()).sum() / batch.target_tokens)


def say_order(checkpoint):
    """Have a checkpoint of stretches name an order; returns its number of files."""
    path = checkpoint / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["state"]["selection"] = {"strategy": "ntp", "order": [], "unit_names": []}
    path.write_text(json.dumps(manifest))
    return len(manifest["files"])


@pytest.mark.distributed
def test_a_split_checkpoint_is_exported_as_one_process_does_and_trained_on(tmp_path):
    split, whole = Layout("TP2", "PP2", embeddings="untied"), Layout(embeddings="untied")
    run = tmp_path / "run"
    call_on(4, stretch, make_config(split), run, 2)
    checkpoint = run / "step-00000002"
    assert say_order(checkpoint) == 4
    export_hf.export(Trained.read(run), tmp_path / "split")
    stretch(make_config(whole), run, 2)
    assert say_order(checkpoint) == 1
    export_hf.export(Trained.read(run), tmp_path / "whole")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "split" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    config = make_config(split)
    file = run_file(tmp_path / "run.yaml", config.model_dump(mode="json")["model"])
    import_hf.bring_in(tmp_path / "split", file, tmp_path / "in")
    config.checkpoint.resume = str(tmp_path / "in")
    trace = call_on(4, stretch, config, tmp_path / "further", 2)[0]
    assert len(trace) == 2
    assert trace[0][0] == pytest.approx(masked_loss(theirs(tmp_path / "split"), 0), rel=1e-5)
    # Started again, the same command goes on from its own checkpoint.
    again = make_config(whole)
    again.checkpoint.resume = str(tmp_path / "in")
    assert len(stretch(again, tmp_path / "further", 3, save=False)) == 1


def test_a_config_json_is_read_as_it_was_written():
    from tools.hf.settings import Theirs

    for model in MODELS.values():
        config = config_of(model).model
        written = json.loads(json.dumps(config_json(config, 24, "float32", 14, None)))
        section = Theirs(written, "config.json").model()
        assert section["layers"] == SIZES["layers"]
        grouped = config.query_groups if config.preset == "llama" else None
        assert section["kv_heads"] == grouped
