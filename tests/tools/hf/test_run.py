"""From a run to an export, and on from an import."""

import json

import pytest
import yaml

from pretrain.config import load_config
from pretrain.distributed.ranks import Ranks
from tests.tools.hf.models import ARITHMETIC, SIZES, config_of, save
from tools import export_hf, generate, import_hf
from tools.hf.trained import Trained

ALONE = Ranks("none", 0, 1, 0, 1)


def run(path) -> int:
    from pretrain.training import job

    return job.run(load_config(path), ALONE)


@pytest.mark.parametrize("decode", ["natural", "criterion", "adaptive"])
def test_a_model_of_every_order_is_asked_as_it_was_scored_and_goes_nowhere_else(
    decode, tmp_path, capsys
):
    values = {
        "model": {**SIZES, "init_std": 0.3},
        "selection": {"strategy": "any_order", "decode": decode},
        "optimizer": {"warmup_steps": 1},
        "training": {"steps": 3, "global_batch": 8, "evaluation_examples": 12},
        "run": {"directory": str(tmp_path / "run"), "progress": False, "tensorboard": False},
    }
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(values))
    assert run(file) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    ways = {name.partition("/")[2]: value for name, value in result["metrics"].items()}
    assert set(ways) == {"", "natural", "criterion", "adaptive"}
    assert ways[""] == ways[decode]

    source = ["--checkpoint", str(tmp_path / "run")]
    prompts = [part for each in result["samples"] for part in ("--prompt", each["source"])]
    capsys.readouterr()
    assert generate.main([*source, *prompts]) == 0
    answers = capsys.readouterr().out.splitlines()
    assert answers == [each["prediction"] for each in result["samples"]]
    assert len(set(answers)) > 1
    assert generate.main([*source, *prompts, "--temperature", "0.5"]) == 2
    assert "--temperature 0.5: a model of selection.strategy any_order" in capsys.readouterr().err
    out = tmp_path / "out"
    assert export_hf.main([*source, "--out", str(out)]) == 2
    assert "which unit it is asked for, and Hugging Face's" in capsys.readouterr().err
    assert not out.exists()

    save(tmp_path / "plain", config_of(), unit_names=ARITHMETIC["unit_names"])
    export_hf.export(Trained.read(tmp_path / "plain"), out)
    begin = ["--model", str(out), "--config", str(file), "--out", str(tmp_path / "in")]
    assert import_hf.main(begin) == 2
    assert "any_order trains embeddings of the units" in capsys.readouterr().err
    assert not (tmp_path / "in").exists()


def test_a_run_is_exported_without_its_texts_and_gone_on_with_as_another(tmp_path, capsys):
    lines = [f"The cat number {n} sat. It ate the mouse. The mouse was small." for n in range(60)]
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(lines))
    values = {
        "model": {**SIZES, "sequence_length": 24},
        "data": {"task": "text", "path": str(text), "vocabulary": 40},
        "selection": {"minimum_count": 1},
        "optimizer": {"warmup_steps": 1},
        "training": {"steps": 3, "global_batch": 4, "evaluation_examples": 4},
        "run": {"directory": str(tmp_path / "run"), "progress": False, "tensorboard": False},
    }
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(values))
    assert run(file) == 0
    text.rename(tmp_path / "gone.txt")
    out, begin = tmp_path / "out", tmp_path / "in"
    assert export_hf.main(["--checkpoint", str(tmp_path / "run"), "--out", str(out)]) == 0
    facts = json.loads((out / "restored_order.json").read_text())
    selection = json.loads((tmp_path / "run" / "selection.json").read_text())
    assert (facts["strategy"], facts["fingerprint"]) == ("max_mi", selection["fingerprint"])
    capsys.readouterr()
    prompt = ["--prompt", "The cat", "--max-tokens", "8"]
    assert generate.main(["--checkpoint", str(tmp_path / "run"), *prompt]) == 0
    assert "<plan>" not in capsys.readouterr().out

    # Other text, another seed and optimizer: the weights go on, all else is new.
    (tmp_path / "gone.txt").rename(text)
    text.write_text(text.read_text().replace("mouse", "cat"))
    values["training"] |= {"seed": 5, "steps": 2}
    values["optimizer"] = {"learning_rate": 1e-3, "warmup_steps": 0}
    values["run"]["directory"] = str(tmp_path / "further")
    file.write_text(yaml.safe_dump(values))
    command = ["--model", str(out), "--config", str(file), "--out", str(begin)]
    assert import_hf.main(command) == 0
    said = capsys.readouterr().out
    assert f"data.tokenizer: {begin / 'tokenizer.json'}" in said
    config = yaml.safe_load((begin / "config.yaml").read_text())
    config["checkpoint"]["resume"] = str(begin)
    file.write_text(yaml.safe_dump(config))
    assert run(file) == 0
    assert f"going on from {begin}, 0 steps done" in capsys.readouterr().out
    # The selection was fitted anew.
    fitted = json.loads((tmp_path / "further" / "selection.json").read_text())
    assert fitted["fingerprint"] != selection["fingerprint"]
