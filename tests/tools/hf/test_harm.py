"""Folders of models that are broken or made to harm."""

import json
import math
import pickle
import struct
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from pretrain.errors import ConfigError, UserError
from pretrain.training.checkpoint.compatibility import check_same_model
from pretrain.training.checkpoint.tensor_files import PieceReader
from tests.tools.hf.models import LLAMA, config_of, parameters_in, save
from tests.tools.hf.test_generation import byte_pairs
from tools import export_hf, generate, import_hf
from tools.hf.trained import Trained

WEIGHTS = "model.safetensors"


@pytest.fixture
def model(tmp_path, monkeypatch) -> Path:
    """An exported model."""
    save(tmp_path / "checkpoint", config_of(LLAMA))
    export_hf.export(Trained.read(tmp_path / "checkpoint"), tmp_path / "model")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"model": {"sequence_length": 16}}))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "model"


def bring_in(model: Path) -> list[str]:
    return import_hf.bring_in(model, model.parent / "run.yaml", model.parent / "in")


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("harmed"),))


def pickled(model: Path) -> None:
    (model / WEIGHTS).write_bytes(pickle.dumps(Payload()))


def only_pickled(model: Path) -> None:
    (model / WEIGHTS).unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))


def huge_header(model: Path) -> None:
    (model / WEIGHTS).write_bytes(struct.pack("<Q", 1 << 40) + b"{}")


def shortened(model: Path) -> None:
    (model / WEIGHTS).write_bytes((model / WEIGHTS).read_bytes()[:-4])


def changed(model: Path, name: str, tensor: torch.Tensor | None) -> None:
    tensors = load_file(model / WEIGHTS)
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    save_file(tensors, model / WEIGHTS)


def missing(model: Path) -> None:
    changed(model, "model.norm.weight", None)


def wrong_shape(model: Path) -> None:
    changed(model, "model.norm.weight", torch.ones(31))


def whole_numbers(model: Path) -> None:
    changed(model, "model.norm.weight", torch.ones(32, dtype=torch.int32))


def not_a_number(model: Path) -> None:
    changed(model, "model.norm.weight", torch.tensor([float("nan"), *[1.0] * 31]))


def infinite(model: Path) -> None:
    changed(model, "model.norm.weight", torch.tensor([*[1.0] * 31, float("-inf")]))


def strange(model: Path) -> None:
    changed(model, "model.layers.0.mlp.expert.weight", torch.ones(1))


def linked(model: Path) -> None:
    (model / WEIGHTS).rename(model.parent / "elsewhere")
    (model / WEIGHTS).symlink_to(model.parent / "elsewhere")


def linked_config(model: Path) -> None:
    (model / "config.json").rename(model.parent / "elsewhere")
    (model / "config.json").symlink_to("../elsewhere")


def index_elsewhere(model: Path) -> None:
    (model / WEIGHTS).unlink()
    listed = {"weight_map": {"model.norm.weight": "../elsewhere.safetensors"}}
    (model / f"{WEIGHTS}.index.json").write_text(json.dumps(listed))


def index_of_nothing(model: Path) -> None:
    (model / WEIGHTS).rename(model / "model-1.safetensors")
    listed = {"weight_map": {"other": "model-1.safetensors"}}
    (model / f"{WEIGHTS}.index.json").write_text(json.dumps(listed))


def no_json(model: Path) -> None:
    (model / "config.json").write_text("[" * 100_000)


def config(**values):
    def change(model: Path) -> None:
        path = model / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    change.__name__ = "-".join(values)
    return change


@pytest.mark.parametrize(
    "harm,message",
    [
        (pickled, "is no whole safetensors file"),
        (only_pickled, r"pytorch_model.bin, a pickle, .* save_pretrained"),
        (huge_header, "is no whole safetensors file"),
        (shortened, "is no whole safetensors file"),
        (missing, "has no tensor model.norm.weight"),
        (wrong_shape, r"model.norm.weight is \[31\], config.json says \[32\]"),
        (whole_numbers, "is I32, expected one of F32, BF16, F16"),
        (not_a_number, "model.norm.weight holds NaN or an infinity"),
        (infinite, "model.norm.weight holds NaN or an infinity"),
        (strange, "has a tensor model.layers.0.mlp.expert.weight"),
        (linked, "leads out of the folder"),
        (linked_config, "leads out of the folder"),
        (index_elsewhere, "names '../elsewhere.safetensors', which is no safetensors file"),
        (index_of_nothing, "names other in model-1.safetensors, which does not hold it"),
        (no_json, "config.json: cannot be read"),
        (config(model_type="mamba"), "model_type is 'mamba', only gpt2 and llama"),
        (config(hidden_size=-1), "hidden_size is -1, expected a whole number above 0"),
        (config(hidden_size="32"), "hidden_size is '32'"),
        (config(rms_norm_eps=1e-6), "rms_norm_eps is 1e-06, models here have 1e-05"),
        (config(attention_bias=True), "attention_bias is True"),
        (config(rope_parameters={"rope_type": "yarn"}), "rope_parameters is"),
        (config(rope_scaling={"type": "linear"}), "rope_scaling is"),
        (config(quantization_config={"bits": 4}), "are quantised"),
        (config(max_position_embeddings=8), "model.sequence_length 16 is more than the 8"),
        (config(num_attention_heads=5), "head_dim is 8"),
    ],
)
def test_a_folder_that_cannot_be_trusted_is_refused_and_leaves_nothing(model, harm, message):
    harm(model)
    with pytest.raises(UserError, match=message):
        bring_in(model)
    assert not (model.parent / "harmed").exists()
    assert not (model.parent / "in").exists()
    assert not list(model.parent.glob(".*partial"))


@pytest.mark.parametrize("harm", [pickled, only_pickled, linked, linked_config])
def test_generation_reads_no_folder_that_cannot_be_trusted(model, harm, capsys):
    harm(model)
    assert generate.main(["--model", str(model), "--prompt", "35*07="]) == 2
    assert "error: " in capsys.readouterr().err
    assert not (model.parent / "harmed").exists()


def test_tools_end_with_a_message(model, tmp_path, capsys):
    run = str(tmp_path / "run.yaml")
    assert import_hf.main(["--model", "nowhere", "--config", run, "--out", "in"]) == 2
    assert "nowhere: is no folder" in capsys.readouterr().err
    assert export_hf.main(["--checkpoint", "nowhere", "--out", "out"]) == 2
    assert "nowhere: is not there; name a run's folder" in capsys.readouterr().err
    assert export_hf.main(["--checkpoint", "checkpoint", "--out", "model"]) == 2
    assert "is there already" in capsys.readouterr().err
    path = tmp_path / "checkpoint" / "rank-00000-of-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert export_hf.main(["--checkpoint", "checkpoint", "--out", "out"]) == 2
    assert "checksum differs" in capsys.readouterr().err


def test_a_checkpoint_of_other_shapes_is_refused(tmp_path):
    folder = tmp_path / "checkpoint"
    save(folder, config_of())
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    values["config"]["model"]["ffn_size"] = 96
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"linear_fc1.weight is \[128, 32\], .* \[96, 32\]"):
        Trained.read(folder)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_not_exported(tmp_path, monkeypatch, value):
    save(tmp_path / "c", config_of())
    trained, full, row = Trained.read(tmp_path / "c"), PieceReader.full, torch.tensor([0])
    monkeypatch.setattr(PieceReader, "full", lambda *of: full(*of).index_fill(0, row, value))
    with pytest.raises(UserError, match=r"c: \S+ holds NaN or an infinity; take a checkpoint"):
        export_hf.export(trained, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_was_imported_says_so_and_takes_the_same_model_only(model, tmp_path):
    bring_in(model)
    with pytest.raises(UserError, match="is imported and not trained yet"):
        Trained.read(tmp_path / "in")
    before = json.loads((tmp_path / "in" / "manifest.json").read_text())["config"]
    check_same_model(before, config_of({**LLAMA, "dropout": 0.2, "sequence_length": 9}), model)
    with pytest.raises(ConfigError, match="ffn_width is 128, not 48; use the model section"):
        check_same_model(before, config_of({**LLAMA, "ffn_size": None}), model)


def test_a_tokenizer_comes_along_and_makes_room(model, tmp_path):
    words = " ".join(["play", "man"] * 400)
    (tmp_path / "text.txt").write_text("\n\n".join(f"{words} {n}." for n in range(9)))
    data = {"data": {"task": "text", "path": str(tmp_path / "text.txt")}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**data, "model": {"sequence_length": 16}}))
    tokenizer = byte_pairs()
    (model / "tokenizer.json").write_text(tokenizer.text)
    changes = bring_in(model)
    assert f"data.tokenizer: {tmp_path / 'in' / 'tokenizer.json'}" in changes
    rows = -(-tokenizer.size // 8) * 8
    manifest = json.loads((tmp_path / "in" / "manifest.json").read_text())
    assert manifest["state"]["vocabulary"] == rows
    values = json.loads(tokenizer.text)
    values["pre_tokenizer"]["pretokenizers"].pop(0)  # joins digits
    values["model"]["vocab"]["12"] = max(values["model"]["vocab"].values()) + 1
    values["model"]["merges"].append(["1", "2"])
    (model / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"digits must be single.*name another with data.tokenizer"):
        import_hf.bring_in(model, tmp_path / "run.yaml", tmp_path / "again")


def test_a_head_of_its_own_is_kept_whatever_the_configuration_says(model):
    config(tie_word_embeddings=True)(model)
    tensors = load_file(model / WEIGHTS)
    head = torch.randn_like(tensors["model.embed_tokens.weight"])
    changed(model, "lm_head.weight", head)
    bring_in(model)
    said = yaml.safe_load((model.parent / "in" / "config.yaml").read_text())
    assert said["model"]["tie_embeddings"] is False
    found = parameters_in(model.parent / "in")["output_layer.weight"]
    assert torch.equal(found[: len(head)], head)


def test_the_single_file_is_read_before_an_index(model, capsys):
    stale = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (model / f"{WEIGHTS}.index.json").write_text(json.dumps(stale))
    bring_in(model)
    assert f"{WEIGHTS} is read, {WEIGHTS}.index.json beside it is not" in capsys.readouterr().out
