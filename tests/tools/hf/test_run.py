"""From a run to an export, and on from an import."""

import json

import yaml

from pretrain.config import load_config
from pretrain.distributed.ranks import Ranks
from tests.tools.hf.models import SIZES
from tools import export_hf, generate, import_hf

ALONE = Ranks("none", 0, 1, 0, 1)


def run(path) -> int:
    from pretrain.training import job

    return job.run(load_config(path), ALONE)


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
