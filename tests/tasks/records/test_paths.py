"""Targets that are paths in a hierarchy: scored by hand, and by a run."""

import json

import numpy as np
import pytest

from pretrain.config import load_config
from pretrain.errors import ConfigError
from pretrain.main import main
from pretrain.tasks.records.config import RecordsData
from pretrain.tasks.records.data import RecordDataset
from pretrain.tasks.records.evaluation import RecordEvaluator

PATHS = [["a", "b", "c"], ["a", "b", "-"], ["a", "-", "-"], ["d", "e", "-"]]


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "paths.jsonl"
    with path.open("w") as file:
        for number in range(80):
            levels = {f"level{n}": name for n, name in enumerate(PATHS[number % 4])}
            said = f"word{number % 4} and {number}"
            file.write(json.dumps({"source": said, "target": levels}) + "\n")
    return path


def make_config(path, end="-", **more):
    data = {"task": "records", "path": str(path), "path_end": end}
    data["field_settings"] = {"text": {"kind": "text"}, **more}
    return load_config(None, {"data": data, "model": {"sequence_length": 16}})


def test_paths_are_scored_by_their_levels(corpus):
    dataset = RecordDataset(RecordsData.of(make_config(corpus)))
    evaluator = object.__new__(RecordEvaluator)
    evaluator.dataset = dataset
    fields = dataset.tokenizer.target

    def rows(*paths: list[str]) -> np.ndarray:
        return np.array(
            [
                [
                    dataset.tokenizer.ids(field.split(name))[0]
                    for field, name in zip(fields, path, strict=True)
                ]
                for path in paths
            ]
        )

    target = rows(*PATHS)
    said = rows(["a", "b", "-"], ["a", "e", "c"], ["a", "-", "-"], ["d", "e", "c"])
    # Right: a b, a, a, d e; there are 3 + 2 + 1 + 2, said 2 + 3 + 1 + 3.
    assert evaluator.ratios(said, target) == {
        "hierarchical_f1": (2 * 6, 8 + 9),
        "lowest_level": (2, 4),
    }
    assert evaluator.ratios(target, target) == {"hierarchical_f1": (16, 16), "lowest_level": (4, 4)}
    nothing = np.full_like(target, dataset.end_id)
    assert evaluator.ratios(target[:1], nothing[:1])["lowest_level"] == (0, 1)
    assert evaluator.ratios(nothing[:1], nothing[:1])["lowest_level"] == (1, 1)


def test_a_run_records_them(corpus, tmp_path):
    arguments = {
        "data.task": "records", "data.path": corpus, "data.path_end": "-",
        "data.field_settings": '{"text": {"kind": "text"}}', "model.layers": 2,
        "model.hidden_size": 32, "model.sequence_length": 16, "optimizer.warmup_steps": 1,
        "training.steps": 2, "training.global_batch": 8, "run.directory": tmp_path / "run",
        "run.progress": "false",
    }  # fmt: skip
    assert (
        main([part for name, value in arguments.items() for part in (f"--{name}", str(value))]) == 0
    )
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["measures"]["hierarchical_f1"]["better"] == "higher"
    metrics = result["metrics"]
    assert 0.0 <= metrics["exact_match"] <= metrics["lowest_level"] <= 1.0
    assert len(result["unit_accuracy"]) == 3


def test_what_is_no_hierarchy_is_refused(corpus):
    with pytest.raises(ConfigError, match=r"data\.path_end none: no field of a target has"):
        RecordDataset(RecordsData.of(make_config(corpus, "none")))
    with pytest.raises(ConfigError, match=r"data\.path_end -: .* field level1 is a string"):
        RecordDataset(RecordsData.of(make_config(corpus, level1={"kind": "string"})))
