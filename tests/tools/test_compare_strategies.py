import json
import math
import os
import shutil
from itertools import permutations

import pytest

from pretrain.config import load_config
from pretrain.errors import ConfigError
from pretrain.progress import progress_bar
from pretrain.training.checkpoint.manifest import saved_step
from tools import compare_strategies
from tools.compare_strategies import main, split_seeds
from tools.comparison.orders import parse_orders
from tools.comparison.runs import load_run, plan
from tools.comparison.variants import parse_variants

SMALL = [
    "--model.hidden_size", "16", "--model.sequence_length", "10", "--training.steps", "4",
    "--training.global_batch", "8", "--training.evaluation_examples", "20",
    "--optimizer.warmup_steps", "1", "--run.log_every", "2", "--run.device", "cpu",
]  # fmt: skip


def test_runs_differ_in_strategy_seed_and_folder_only(tmp_path):
    config = load_config(None, {"training": {"steps": 7}})
    runs = plan(config, parse_variants("ntp,max_mi"), [0, 3], tmp_path)
    assert [run.name for run in runs] == [
        "ntp-seed0", "max_mi-seed0", "ntp-seed3", "max_mi-seed3",
    ]  # fmt: skip
    dumps = [run.config.model_dump() for run in runs]
    for dump in dumps:
        del dump["selection"]["strategy"], dump["training"]["seed"], dump["run"]["directory"]
    assert all(dump == dumps[0] for dump in dumps)


def test_arguments_are_checked():
    assert [variant.label for variant in parse_variants("ntp, max_mi")] == ["ntp", "max_mi"]
    assert split_seeds("0,2") == [0, 2]
    for text in ("best", "ntp,ntp", ""):
        with pytest.raises(ConfigError, match="--strategies"):
            parse_variants(text)
    for text in ("a", "1,1", "-1", ""):
        with pytest.raises(ConfigError, match="--seeds"):
            split_seeds(text)


def test_variants_have_labels_folders_and_fields():
    text = "ntp, max_mi:estimator=pairwise:tie_bits=0 ,fixed:fixed=[3,2,1,0],fixed:fixed=0-1-2-3"
    variants = parse_variants(text)
    assert [variant.label for variant in variants] == [
        "ntp", "max_mi estimator=pairwise tie_bits=0", "fixed 3-2-1-0", "fixed 0-1-2-3",
    ]  # fmt: skip
    assert [variant.folder for variant in variants] == [
        "ntp", "max_mi,estimator=pairwise,tie_bits=0", "fixed,3-2-1-0", "fixed,0-1-2-3",
    ]  # fmt: skip
    assert variants[1].selection == {"strategy": "max_mi", "estimator": "pairwise", "tie_bits": 0}
    assert variants[2].selection == {"strategy": "fixed", "fixed": [3, 2, 1, 0]}


def test_a_variant_may_change_the_objective(tmp_path):
    text = "ntp,ntp:objective.name=top:objective.window=8,ntp:objective.name=mi_bag"
    plain, top, bag = plan(load_config(), parse_variants(text), [1], tmp_path)
    assert plain.config.objective == load_config().objective
    assert (top.config.objective.name, top.config.objective.window) == ("top", 8)
    assert top.config.selection == plain.config.selection
    assert top.variant.label == "ntp objective.name=top objective.window=8"
    assert bag.name == "ntp,objective.name=mi_bag-seed1"
    for text, words in (
        ("ntp:objective.wind=8", "objective.wind is no field of selection; use .*objective.window"),
        ("ntp:objective.name=best", "objective.name best"),
        ("ntp:objective.window=8", "ntp objective.window=8: objective.window 8 is of no use"),
        ("ntp,ntp:objective.name=cross_entropy", "are the same selection and objective"),
    ):
        with pytest.raises(ConfigError, match=words):
            plan(load_config(), parse_variants(text), [0], tmp_path)


def test_folders_of_different_variants_differ_and_are_safe():
    texts = ["max_mi:table=a/b", "max_mi:table=a,max_mi:table=a_b", "max_mi:table=../a b"]
    folders = [variant.folder for text in texts for variant in parse_variants(text)]
    assert len(set(folders)) == 4
    assert not any(set(folder) & set("/ ~*$'\"") for folder in folders)


@pytest.mark.parametrize(
    "text,words",
    [
        ("max_mi:features", "features has no value; expected STRATEGY:field=value|has no value"),
        ("max_mi:featurs=before", "featurs is no field of selection; use .*features"),
        ("max_mi:strategy=ntp", "strategy is no field of selection"),
        ("max_mi:tie_bits=0:tie_bits=1", "a field is set twice"),
        ("max_mi:tie_bits=0,max_mi:tie_bits=0", "max_mi tie_bits=0 is there twice"),
        ("fixed:fixed=[3,2", "no YAML; write an order as .3,2,1,0. or 3-2-1-0"),
        (" , ", "names no strategy"),
    ],
)
def test_what_is_wrong_with_a_variant_is_said(text, words):
    with pytest.raises(ConfigError, match=f"--strategies.*({words})"):
        parse_variants(text)


@pytest.mark.parametrize(
    "text,words",
    [
        ("max_mi:tie_bits=-1", "--strategies max_mi tie_bits=-1: .*selection.tie_bits"),
        ("max_mi:estimator=best", "selection.estimator best is not known.*use joint, pairwise"),
        ("fixed", "needs selection.fixed, for example"),
        ("fixed:fixed=1-1", "not a permutation"),
        ("frequency", "not known to data.task arithmetic; use ntp, reverse"),
        ("max_mi,max_mi:estimator=joint", "max_mi and max_mi estimator=joint are the same"),
    ],
)
def test_variants_are_checked_by_the_configuration(text, words, tmp_path):
    with pytest.raises(ConfigError, match=f"(?s){words}"):
        plan(load_config(), parse_variants(text), [0], tmp_path)


def test_runs_of_variants_have_their_fields(tmp_path):
    variants = parse_variants("max_mi:estimator=pairwise,fixed:fixed=3-2-1-0")
    first, second = plan(load_config(), variants, [2], tmp_path)
    assert first.config.selection.estimator == "pairwise"
    assert first.directory == tmp_path / "max_mi,estimator=pairwise-seed2"
    assert second.config.selection.fixed == (3, 2, 1, 0)


@pytest.mark.parametrize(
    "operation,digits,units",
    [("multiplication", 2, 4), ("subtraction", 3, 4), ("addition", 3, 4), ("addition", 2, 3)],
)
def test_all_orders_are_one_variant_each_and_natural_order_is_first(
    operation, digits, units, tmp_path
):
    data = {"operation": operation, "digits": digits, "examples": 50}
    config = load_config(None, {"data": data})
    variants = parse_orders("all", config)
    assert len({variant.folder for variant in variants}) == math.factorial(units)
    assert variants[0].label == "fixed " + "-".join(map(str, range(units)))
    runs = plan(config, variants, [1], tmp_path)
    assert sorted(run.config.selection.fixed for run in runs) == list(permutations(range(units)))
    assert {run.config.selection.strategy for run in runs} == {"fixed"}


def test_listed_orders_are_the_same_variants_as_fixed_ones():
    config = load_config(None, {"data": {"examples": 50}})
    assert parse_orders(" 0321, 3-2-1-0", config) == parse_variants(
        "fixed:fixed=0-3-2-1,fixed:fixed=3-2-1-0"
    )
    long = load_config(
        None, {"data": {"digits": 6, "examples": 50}, "model": {"sequence_length": 32}}
    )
    natural = "-".join(map(str, range(12)))
    assert parse_orders(natural, long)[0].selection["fixed"] == list(range(12))


@pytest.mark.parametrize(
    "data,text,words",
    [
        ({}, "321", "321 is not a permutation of the 4 units .thousands, .*natural order is 0123"),
        ({}, "0322", "0322 is not a permutation"),
        ({}, "best", "best is not a permutation"),
        ({}, "0321,0-3-2-1", "0321 is there twice; list each order once"),
        ({}, " ,", "lists no order; use all, or such as 0321,3210"),
        ({"digits": 4}, "all", "8 units have more orders than can be trained, expected at most 6"),
        ({"task": "text", "path": "no.txt"}, "all", "data.task text has no units.*some of ntp"),
    ],
)
def test_orders_that_cannot_be_trained_are_refused(data, text, words):
    task = {} if "task" in data else {"examples": 50}
    with pytest.raises(ConfigError, match=f"--orders.*{words}"):
        parse_orders(
            text, load_config(None, {"data": {**task, **data}, "model": {"sequence_length": 32}})
        )


def test_all_orders_are_trained_and_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare_strategies, "launch", fake_training)
    assert main(["--orders", "012", "--out", str(tmp_path), *SMALL]) == 2
    assert "--orders: 012 is not a permutation of the 4 units" in capsys.readouterr().err
    arguments = ["--strategies", "ntp", "--orders", "all", "--out", str(tmp_path), *SMALL]
    assert main(arguments) == 0
    summary = json.loads((tmp_path / "comparison.json").read_text())
    assert len(summary["strategies"]) == 25
    assert summary["baseline"] == "ntp"
    assert summary["strategies"]["fixed 3-2-1-0"]["area"]["per_seed"] == [0.25]


@pytest.mark.parametrize(
    "fields, order, bits",
    [
        ("", (0, 1, 2, 3), None),
        (":anneal_to=natural", (0, 1, 2, 3), None),
        (":anneal_to=criterion", (2, 0, 1, 3), (1.0, 2.0, 3.0, 0.5)),
        (":decode=adaptive", (), None),
    ],
)
def test_a_model_of_every_order_is_reported_in_the_order_of_its_score(
    fields, order, bits, tmp_path
):
    (run,) = plan(load_config(), parse_variants(f"any_order{fields}"), [0], tmp_path)
    fake_training(run)
    path = run.directory / "selection.json"
    found = {**json.loads(path.read_text()), "order": [2, 0, 1, 3], "bits": [1.0, 2.0, 3.0, 0.5]}
    path.write_text(json.dumps(found))

    result = load_run(run)
    assert (result.order, result.bits) == (order, bits)


def fake_training(run, *_):
    """Leaves what a run leaves, without training."""
    run.directory.mkdir(parents=True, exist_ok=True)
    order = [3, 2, 1, 0] if run.variant.strategy == "reverse" else [0, 1, 2, 3]
    selection = {
        "order": order, "unit_names": ["th", "h", "te", "u"], "bits": None, "estimator": None,
        "seconds": 0.5, "step": 0,
    }  # fmt: skip
    score = {
        "headline": "exact_match", "higher_is_better": True,
        "measures": {"exact_match": {"better": "higher", "unit": "share", "comparable": True}},
        "unit_accuracy": [0.5] * 4,
        "metrics": {"exact_match": 0.25 + run.seed / 4}, "samples": [], "tokens": 100,
    }  # fmt: skip
    result = {"train_seconds": 2.0, "model_flops": 5, "parameters": 3, "layout": "1 process"}
    (run.directory / "config.yaml").write_text(run.config.to_yaml())
    (run.directory / "selection.json").write_text(json.dumps(selection))
    (run.directory / "selection.jsonl").write_text(f"{json.dumps(selection)}\n" * 2)
    (run.directory / "evaluation.jsonl").write_text(f"{json.dumps(score)}\n" + '{"half a li')
    (run.directory / "result.json").write_text(json.dumps({**score, **result}))


def test_an_interrupted_comparison_goes_on_where_it_stopped(tmp_path, capsys, monkeypatch):
    strategies = "ntp,max_mi:estimator=pairwise,reverse"
    arguments = ["--strategies", strategies, "--seeds", "0,1", "--out", str(tmp_path), *SMALL]
    trained = []

    def interrupted(run, *rest):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(run.name)
        fake_training(run, *rest)

    monkeypatch.setattr(compare_strategies, "launch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(arguments)
    assert trained == ["ntp-seed0", "max_mi,estimator=pairwise-seed0", "reverse-seed0"]

    # The report of what is there says what is missing.
    capsys.readouterr()
    assert main([*arguments, "--report-only"]) == 0
    summary = json.loads((tmp_path / "comparison.json").read_text())
    assert summary["missing"] == ["ntp-seed1", "max_mi,estimator=pairwise-seed1", "reverse-seed1"]
    assert summary["strategies"]["max_mi estimator=pairwise"]["seeds"] == [0]
    assert summary["strategies"]["ntp"]["selection_seconds"] == [1.0]  # a fit and a refresh

    trained.clear()
    monkeypatch.setattr(compare_strategies, "launch", lambda run, *rest: (
        trained.append(run.name), fake_training(run)))  # fmt: skip
    assert main(arguments) == 0
    assert trained == ["ntp-seed1", "max_mi,estimator=pairwise-seed1", "reverse-seed1"]
    summary = json.loads((tmp_path / "comparison.json").read_text())
    assert summary["missing"] == []
    assert summary["paired"]["reverse"]["ci95"] == [0.0, 0.0]
    assert summary["strategies"]["ntp"]["per_seed"] == [0.25, 0.5]


def test_a_report_needs_a_complete_run(tmp_path, capsys):
    assert main(["--out", str(tmp_path), "--report-only", *SMALL]) == 2
    error = capsys.readouterr().err
    assert "--report-only: none of the 2 runs" in error
    assert "train them without --report-only" in error


def test_figures_that_cannot_be_compared_are_refused(tmp_path, capsys, monkeypatch):
    def diverged(run, *_):
        fake_training(run)
        path = run.directory / "evaluation.jsonl"
        path.write_text(path.read_text().replace('"exact_match": 0.25', '"exact_match": NaN'))

    monkeypatch.setattr(compare_strategies, "launch", diverged)
    assert main(["--strategies", "ntp", "--out", str(tmp_path), *SMALL]) == 2
    error = capsys.readouterr().err
    assert "run 'ntp', seed 0 has exact_match nan" in error
    assert "remove its folder to train it again" in error


@pytest.mark.distributed
def test_a_comparison_is_trained_reported_and_not_trained_again(tmp_path, capsys, monkeypatch):
    arguments = ["--strategies", "ntp,reverse", "--seeds", "0", "--out", str(tmp_path), *SMALL]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert "reverse" in first
    summary = json.loads((tmp_path / "comparison.json").read_text())
    assert summary["metric"] == "exact_match"
    for strategy in ("ntp", "reverse"):
        entry = summary["strategies"][strategy]
        assert 0.0 <= entry["mean"] <= 1.0
        assert len(entry["per_seed"]) == 1
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
    assert "<html" in (tmp_path / "report.html").read_text()
    layout = json.loads((tmp_path / "ntp-seed0" / "result.json").read_text())["layout"]
    assert "data 2" in layout

    def fail(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(compare_strategies, "launch", fail)
    assert main(arguments) == 0
    assert "complete, not trained again" in capsys.readouterr().out

    # Another configuration in the same folder is refused, naming what differs.
    assert main([*arguments, "--training.seed", "0", "--optimizer.learning_rate", "0.5"]) == 2
    assert "optimizer.learning_rate is 0.001 there, 0.5 here" in capsys.readouterr().err


@pytest.mark.distributed
def test_an_interrupted_run_goes_on_from_its_checkpoint(tmp_path, capsys):
    arguments = ["--strategies", "ntp", "--out", str(tmp_path), "--processes", "1", *SMALL]
    arguments += ["--checkpoint.save_every", "2", "--run.log_every", "1"]
    assert main(arguments) == 0
    run = tmp_path / "ntp-seed0"
    whole = (run / "metrics.jsonl").read_text().splitlines()
    (run / "result.json").unlink()
    shutil.rmtree(run / "checkpoints" / "step-00000004")
    assert saved_step(run / "checkpoints") == 2
    assert main(arguments) == 0
    parts = (run / "metrics.jsonl").read_text().splitlines()
    # Times too: the first two steps were not trained again.
    assert parts[:2] == whole[:2]
    assert parts[2:] != whole[2:]
    assert [json.loads(line)["loss"] for line in parts] == [
        json.loads(line)["loss"] for line in whole
    ]
    assert "checkpoints/step-00000002" in (run / "log.txt").read_text()


@pytest.mark.distributed
def test_a_failing_run_shows_the_end_of_its_log(tmp_path, capsys):
    arguments = ["--strategies", "ntp", "--out", str(tmp_path), *SMALL, "--processes", "1"]
    assert main([*arguments, "--model.sequence_length", "5"]) == 2
    error = capsys.readouterr().err
    assert "run ntp-seed0 failed with exit code 2" in error
    assert "model.sequence_length 5 is too short" in error


def test_a_resumed_bar_starts_where_it_stands_and_never_goes_back(tmp_path):
    (run,) = plan(load_config(), parse_variants("ntp"), [0], tmp_path)
    run.directory.mkdir(parents=True)
    metrics = run.directory / "metrics.jsonl"
    metrics.write_text('{"step": 40, "loss": 1.0}\n')
    before = {run.name: compare_strategies.written(run)}
    steps = {run.name: 30}
    bar = progress_bar(60, "training", start=30)
    compare_strategies.show(bar, [run], steps, before)
    assert bar.n == 30  # steps after the checkpoint are trained again
    for step, shown in ((20, 30), (35, 35)):
        metrics.write_text(f'{{"step": {step}, "loss": 1.0}}\n')
        os.utime(metrics, ns=(step, step))
        compare_strategies.show(bar, [run], steps, before)
        assert bar.n == shown
