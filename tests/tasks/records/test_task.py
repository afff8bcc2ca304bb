"""Records in a job: trained, scored by field, resumed, on two ranks, shown, asked and reported."""

import json
from pathlib import Path

import numpy as np
import pytest

from pretrain.config import Config, load_config
from pretrain.distributed.ranks import discover
from pretrain.errors import ConfigError
from pretrain.main import main
from pretrain.planning.plan import vocabulary_of
from pretrain.testing.processes import run_gang
from tools.export_hf import main as export_hf
from tools.generate import main as generate
from tools.inspect_selection import main as inspect_selection
from tools.report.templates import render
from tools.show_batch import main as show_batch


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    """300 records: a number and its parity from a number and a text."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("records") / "r.jsonl"
    with path.open("w") as file:
        for n in range(300):
            said = f"{rng.choice(['red', 'blue'])} and {rng.choice(['big', 'small', 'tiny'])} {n}"
            source = {"n": n, "said": said}
            target = {"less": n - 9, "colour": said.split()[0], "odd": n % 2 > 0}
            file.write(json.dumps({"source": source, "target": target}) + "\n")
    return path


def settings(path: Path, directory: Path, **training: object) -> dict:
    return {
        "model": {"layers": 2, "hidden_size": 32, "sequence_length": 20},
        "data": {"task": "records", "path": str(path), "informative_words": 4,
                 "field_settings": {"said": {"kind": "text"}}},
        "optimizer": {"warmup_steps": 1},
        "training": {"steps": 4, "global_batch": 16, **training},
        "checkpoint": {"save_every": 2, "keep_last": 0},
        "run": {"directory": str(directory), "progress": False, "tensorboard": False,
                "log_every": 1},
    }  # fmt: skip


def train(path: str, directory: str) -> None:
    from pretrain.training import job

    job.run(load_config(None, settings(Path(path), Path(directory))), discover())


def arguments(values: dict, prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, value in values.items():
        if isinstance(value, dict) and name != "field_settings":
            found += arguments(value, f"{prefix}{name}.")
        else:
            written = value if isinstance(value, str) else json.dumps(value)
            found += [f"--{prefix}{name}", written]
    return found


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def losses(folder: Path) -> dict[int, float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines}


@pytest.fixture(scope="module")
def trained(records, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "whole"
    assert main(arguments(settings(records, folder))) == 0
    return folder


def test_it_is_scored_as_a_whole_and_by_field(trained):
    result = read(trained / "result.json")
    assert result["headline"] == "exact_match"
    fields = ["field/less", "field/colour", "field/odd"]
    assert list(result["metrics"]) == ["exact_match", *fields]
    assert result["measures"]["field/odd"] == {
        "better": "higher", "unit": "share", "comparable": True,
    }  # fmt: skip
    less, colour, odd = (result["metrics"][name] for name in fields)
    assert result["unit_accuracy"][-2:] == [colour, odd]
    assert less <= min(result["unit_accuracy"][:4])
    assert result["metrics"]["exact_match"] <= min(less, colour, odd)
    selection = read(trained / "selection.json")
    assert selection["unit_names"] == ["less[0]", "less[1]", "less[2]", "less[3]", "colour", "odd"]
    assert selection["estimator"] == "pairwise"
    for sample in result["samples"]:
        assert sample["target"]["odd"] in ("true", "false")
        assert int(sample["source"]["n"]) - 9 == int(sample["target"]["less"])


def test_it_goes_on_to_the_bit(trained, records, tmp_path):
    half = trained / "checkpoints" / "step-00000002"
    again = tmp_path / "resumed"
    assert main([*arguments(settings(records, again)), "--checkpoint.resume", str(half)]) == 0
    assert losses(again) == {step: losses(trained)[step] for step in (3, 4)}


def test_other_fields_are_another_run(trained, records, tmp_path, capsys):
    more = read_lines(records)
    more[0]["target"]["less"] = 12345  # wider: other tokens
    path = tmp_path / "other.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in more))
    half = trained / "checkpoints" / "step-00000002"
    given = [*arguments(settings(path, tmp_path / "other")), "--checkpoint.resume", str(half)]
    assert main(given) == 2
    assert "was trained on something else: the tokenizer" in capsys.readouterr().err


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.distributed
def test_two_ranks_select_and_train_the_same(trained, records, tmp_path):
    run_gang(2, [(train, str(records), str(tmp_path / "two"))])
    one, two = (read(folder / "result.json") for folder in (trained, tmp_path / "two"))
    assert one["fingerprint"] == two["fingerprint"]
    expected = losses(trained)
    assert losses(tmp_path / "two") == pytest.approx(expected, rel=1e-4)
    assert two["samples"][0]["source"] == one["samples"][0]["source"]


def test_a_batch_is_shown_in_the_order_of_the_selection(trained, capsys):
    assert show_batch([str(trained), "--step", "1", "--json"]) == 0
    order = read(trained / "selection.json")["order"]
    for shown in json.loads(capsys.readouterr().out)["shown"]:
        source, _, target = shown["text"].removesuffix("<<").partition("<plan>>>")
        units = target.split()
        natural = [units[order.index(unit)] for unit in range(6)]
        n = int("".join(source.split()[:3]))
        assert int("".join(natural[:4])) == n - 9
        assert natural[4] == source.split()[3]
        assert natural[5] == ("true" if n % 2 else "false")


def test_it_is_inspected(records, tmp_path, capsys):
    given = arguments(settings(records, tmp_path / "none"))
    assert inspect_selection([*given, "--all-pairs", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["examples"] == 300
    assert len(found["bits"]) == 6
    # The words tell the colour wholly; the digits next to nothing of it.
    assert found["bits"][4] > 1.9


def test_a_prompt_is_a_source_and_the_answer_a_record(trained, capsys):
    prompt = '{"n": 42, "said": "red and big 42"}'
    assert generate(["--checkpoint", str(trained), "--prompt", prompt]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) <= {"less", "colour", "odd"}
    assert generate(["--checkpoint", str(trained), "--prompt", prompt, "--raw"]) == 0
    assert len(capsys.readouterr().out.split()) == 6
    assert generate(["--checkpoint", str(trained), "--prompt", "35*07="]) == 2
    assert "expected a JSON object with the fields n, said" in capsys.readouterr().err


def test_records_are_trained_on_every_order_and_asked_in_any(records, tmp_path, capsys):
    values = settings(records, tmp_path / "any")
    values["selection"] = {"strategy": "any_order", "draw": "criterion", "anneal_to": "criterion"}
    assert main(arguments(values)) == 0
    result = read(tmp_path / "any" / "result.json")
    assert list(result["metrics"])[-3:] == [
        "exact_match/natural", "exact_match/criterion", "exact_match/adaptive",
    ]  # fmt: skip
    order = read(tmp_path / "any" / "selection.json")["order"]
    assert all(sample["order"] == order for sample in result["samples"])
    capsys.readouterr()
    assert show_batch([str(tmp_path / "any"), "--step", "0", "--json"]) == 0
    before = [shown["text"].split()[-6:] for shown in json.loads(capsys.readouterr().out)["shown"]]
    assert show_batch([str(tmp_path / "any"), "--step", "3", "--json"]) == 0
    after = [shown["text"].split()[-6:] for shown in json.loads(capsys.readouterr().out)["shown"]]
    # The column of colours is in one place once all are in the criterion's order.
    colours = [[unit.strip("<>") for unit in units] for units in after]
    places = {units.index(c) for units in colours for c in ("red", "blue") if c in units}
    assert places == {order.index(4)}
    assert before != after
    prompt = '{"n": 42, "said": "red and big 42"}'
    assert generate(["--checkpoint", str(tmp_path / "any"), "--prompt", prompt]) == 0
    assert set(json.loads(capsys.readouterr().out)) <= {"less", "colour", "odd"}


def test_an_export_is_refused_with_the_way_out(trained, tmp_path, capsys):
    out = tmp_path / "out"
    assert export_hf(["--checkpoint", str(trained), "--out", str(out)]) == 2
    assert "tools.generate --checkpoint" in capsys.readouterr().err
    assert not out.exists()


def test_a_sample_is_shown_unit_by_unit(trained):
    presentation = load_config(None, settings(Path("r"), Path("x"))).data.presentation()
    names = ["less[0]", "less[1]", "<i>", "odd"]
    sample = {
        "source": {"n": "<b>"},
        "target": {"less": "-2", "colour": '"red"', "odd": "true"},
        "prediction": {"less": "no value", "colour": '"blue"', "odd": "true"},
        "right_units": ["-", "2", "red", "true"],
        "raw": ["true", "blue", "-", "<pad>"],
        "correct": False,
    }
    assert sample.keys() == presentation.sample_keys
    page = str(
        render(presentation.template, **presentation.sample(sample, (3, 2, 0, 1), names, []))
    )
    assert "1 of 3 fields right" in page
    assert "odd: true ✓" in page
    assert "&lt;i&gt;: blue ✗" in page
    assert "less no value, correct -2" in page
    assert "<b>" not in page
    for real in read(trained / "result.json")["samples"]:
        order = read(trained / "selection.json")["order"]
        units = read(trained / "selection.json")["unit_names"]
        given = presentation.sample(real, order, units, [])
        assert [chip["unit"] for chip in given["chips"]] == [units[unit] for unit in order]


@pytest.mark.parametrize(
    "strategy, estimator, said",
    [
        ("max_mi", "chain", "targets have 26 units"),
        ("learned", None, "selection.strategy learned: 27 training examples"),
        ("max_mi", "v_information", "selection.estimator v_information: 27 training examples"),
        ("max_mi", "joint", "do not fit a 64-bit key; use a smaller estimator"),
    ],
)
def test_an_order_that_cannot_be_found_is_refused(tmp_path, capsys, strategy, estimator, said):
    path = tmp_path / "r.jsonl"
    path.write_text(
        "".join(
            json.dumps({"source": {"n": f"{n:026d}"}, "target": {"m": f"{n:026d}"}}) + "\n"
            for n in range(30)
        )
    )
    chosen = {"strategy": strategy} | ({"estimator": estimator} if estimator else {})
    values = settings(path, tmp_path / "run") | {"selection": chosen}
    values["model"]["sequence_length"] = 60
    values["data"].pop("field_settings")
    assert main(arguments(values)) == 2
    assert said in capsys.readouterr().err


def config_of(**data: object) -> Config:
    values = {"data": {"task": "records", "path": "r.jsonl", **data}}
    return load_config(None, values | {"selection": {"estimator": "pairwise"}})


def test_a_plan_counts_the_table_where_the_fields_are_told():
    fields = {"a": {"kind": "number", "width": 3}, "b": {"kind": "category"}}
    known = config_of(source=["a"], target=["b"], field_settings=fields)
    cells = known.data.table_cells(known.selection, 16, 1)
    assert cells == 4 * 16 * 16  # with a sign
    for unknown in (config_of(), config_of(source=["a"], target=["b"])):
        assert unknown.data.table_cells(unknown.selection, 16, 1) is None
    with pytest.raises(ConfigError, match=r"the tokenizer is made of the data, .* set model\.voc"):
        vocabulary_of(known)
