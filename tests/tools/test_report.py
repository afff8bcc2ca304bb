import json
import random
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from tools import report
from tools.report import Comparison, RunResult

UNITS = ("thousands", "hundreds", "tens", "units")
ORDERS = {"ntp": (0, 1, 2, 3), "max_mi": (2, 1, 3, 0), "reverse": (3, 2, 1, 0)}
BITS = (2.71, 3.30, 3.31, 3.03)
VOID = {"meta", "br", "img", "hr", "input", "link", "source"}


def make_sample(order: tuple[int, ...], target: str, prediction: str) -> dict[str, Any]:
    raw = "".join(prediction[unit] for unit in order)
    return {
        "source": "35*07=",
        "target": target,
        "prediction": prediction,
        "raw": raw,
        "correct": target == prediction,
    }


def make_run(strategy: str = "ntp", seed: int = 0, final: float = 0.5, **changes: Any) -> RunResult:
    order = ORDERS.get(strategy, ORDERS["ntp"])
    run = RunResult(
        strategy=strategy,
        seed=seed,
        order=order,
        unit_names=UNITS,
        bits=BITS if strategy == "max_mi" else None,
        estimator="joint" if strategy == "max_mi" else None,
        tokens=(1000, 2000, 3000),
        metric=(0.0, 0.9, final),
        unit_accuracy=((0.1, 0.1, 0.1, 0.1), (0.9, 0.9, 0.9, 0.9), (0.8, 0.6, 0.4, final)),
        samples=(make_sample(order, "0245", "0245"), make_sample(order, "0245", "0295")),
        train_seconds=90.0 + seed,
        selection_seconds=10.0 if strategy == "max_mi" else 0.0,
        model_flops=2e12,
        parameters=400_000,
    )
    return replace(run, **changes)


def make_comparison(*runs: RunResult, **changes: Any) -> Comparison:
    comparison = Comparison(
        title="Which digit first?",
        metric_name="exact_match",
        runs=runs,
        config_yaml="layers: 2\n",
        commit="0123abc",
        environment={"torch": "2.13"},
        command="python -m tools.compare_strategies",
    )
    return replace(comparison, **changes)


def two_strategies(ntp: list[float], max_mi: list[float]) -> Comparison:
    runs = [make_run("ntp", seed, final) for seed, final in enumerate(ntp)]
    runs += [make_run("max_mi", seed, final) for seed, final in enumerate(max_mi)]
    return make_comparison(*runs)


def render(comparison: Comparison, path: Path) -> str:
    report.render_html(comparison, report.summarise(comparison), path)
    return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    """Checks that tags are balanced; keeps tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


# --- Summary ---


def test_the_last_evaluation_counts_and_std_is_that_of_a_sample() -> None:
    summary = report.summarise(two_strategies([0.2, 0.4], [0.5, 0.9]))
    ntp, max_mi = summary["strategies"]["ntp"], summary["strategies"]["max_mi"]
    assert summary["metric"] == "exact_match"
    assert ntp["mean"] == pytest.approx(0.3)
    assert ntp["std"] == pytest.approx(0.1 * 2**0.5)  # ddof 1; with ddof 0 it were 0.1
    assert ntp["per_seed"] == [0.2, 0.4]
    assert ntp["seeds"] == [0, 1]
    assert ntp["unit_accuracy"] == pytest.approx([0.8, 0.6, 0.4, 0.3])
    assert ntp["trained_tokens"] == 3000
    assert ntp["model_flops"] == 2e12
    assert ntp["train_seconds"] == [90.0, 91.0]
    assert max_mi["order"] == [2, 1, 3, 0]
    assert max_mi["selection_seconds"] == [10.0, 10.0]
    assert max_mi["bits"] == pytest.approx(BITS)


def test_differences_are_paired_over_the_seeds_that_both_have() -> None:
    runs = [make_run("ntp", seed, final) for seed, final in ((0, 0.2), (1, 0.4), (2, 1.0))]
    runs += [make_run("max_mi", seed, final) for seed, final in ((1, 0.5), (0, 0.6), (7, 0.0))]
    paired = report.summarise(make_comparison(*runs))["paired"]
    assert list(paired) == ["max_mi"]
    assert paired["max_mi"]["against"] == "ntp"
    assert paired["max_mi"]["seeds"] == [0, 1]
    assert paired["max_mi"]["per_seed"] == pytest.approx([0.4, 0.1])
    assert paired["max_mi"]["difference"] == pytest.approx(0.25)


def test_without_ntp_the_first_strategy_is_the_baseline() -> None:
    comparison = make_comparison(make_run("reverse", final=0.5), make_run("max_mi", final=0.25))
    summary = report.summarise(comparison)
    assert summary["baseline"] == "reverse"
    assert summary["paired"]["max_mi"]["difference"] == pytest.approx(-0.25)


def test_one_seed_has_no_std_and_disjoint_seeds_no_difference() -> None:
    summary = report.summarise(make_comparison(make_run("ntp", 0), make_run("max_mi", 1)))
    assert summary["strategies"]["ntp"]["std"] is None
    assert summary["paired"]["max_mi"]["difference"] is None
    assert summary["paired"]["max_mi"]["per_seed"] == []
    assert "n/a" in report.format_table(summary)


def test_order_is_none_where_it_differs_by_seed() -> None:
    runs = make_run("random", 0, order=(1, 0, 2, 3)), make_run("random", 1, order=(3, 0, 2, 1))
    entry = report.summarise(make_comparison(*runs))["strategies"]["random"]
    assert entry["order"] is None
    assert entry["orders"] == [[1, 0, 2, 3], [3, 0, 2, 1]]


# --- Words ---


@pytest.mark.parametrize(
    "ntp,max_mi,words",
    [
        ([0.3, 0.3, 0.3], [0.5, 0.6, 0.7], "30.0 points ahead of ntp, and ahead on every one of 3"),
        ([0.5, 0.5], [0.4, 0.3], "15.0 points behind ntp, and behind on both seeds"),
        ([0.5, 0.5], [0.5, 0.5], "end level: 50.0 % against 50.0 %"),
        ([0.5, 0.5, 0.5], [0.7, 0.4, 0.7], "No clear winner: max_mi ends 10.0 points ahead of"),
        ([0.5, 0.5, 0.5], [0.7, 0.4, 0.7], "ahead on only 2 of 3 seeds"),
        ([0.3], [0.5], "20.0 points ahead of ntp: 50.0 % against 30.0 %"),
        ([0.3], [0.5], "on a single seed"),
        ([0.3], [], "ntp reaches 30.0 % exact match"),
    ],
)
def test_headline_says_what_came_out(ntp: list[float], max_mi: list[float], words: str) -> None:
    assert words in report.headline(report.summarise(two_strategies(ntp, max_mi)))


def test_one_seed_and_unequal_budgets_are_caveats() -> None:
    comparison = make_comparison(make_run("ntp"), make_run("max_mi", model_flops=3e12))
    found = " ".join(report.caveats(report.summarise(comparison)))
    assert "One seed says little" in found
    assert "Budgets are not equal: max_mi was trained on 3 T model FLOPs, ntp on 2 T" in found
    assert "entropy of each digit" in found
    equal = " ".join(report.caveats(report.summarise(two_strategies([0.1] * 3, [0.2] * 3))))
    assert "not equal" not in equal
    assert "Means are over 3 seeds" in equal


def test_abbreviations_are_unique_and_numbers_where_names_are_too_alike() -> None:
    assert report.abbreviate(UNITS) == ["th", "h", "te", "u"]
    assert report.abbreviate(("label 1", "label 2")) == ["1", "2"]
    assert report.abbreviate(("a", "ab")) == ["1", "2"]


# --- Terminal table ---


def test_table_has_the_known_figures() -> None:
    lines = report.format_table(report.summarise(two_strategies([0.2, 0.4], [0.5, 0.9]))).split(
        "\n"
    )
    assert lines[3].split() == ["max_mi", "te>h>u>th", "70.0", "±", "28.3", "50.0", "90.0", "+40.0"]
    assert lines[4].split() == ["ntp", "th>h>te>u", "30.0", "±", "14.1", "20.0", "40.0", "-"]


@pytest.mark.parametrize("seeds", [1, 3, 12])
def test_table_fits_a_terminal(seeds: int) -> None:
    names = tuple(f"a rather long name of label {number}" for number in range(12))
    runs = [
        make_run(
            strategy,
            seed,
            order=tuple(range(12)),
            unit_names=names,
            bits=None,
            unit_accuracy=((0.5,) * 12,) * 3,
        )
        for strategy in ("ntp", "max_mi", "a_strategy_with_quite_a_long_name")
        for seed in range(seeds)
    ]
    table = report.format_table(report.summarise(make_comparison(*runs)))
    assert max(len(line) for line in table.split("\n")) <= 80
    assert table.count("50.0") >= 3 * seeds  # no seed is left out


# --- Plot ---


def test_plot_is_a_png_of_900_by_550(tmp_path: Path) -> None:
    comparison = replace(two_strategies([0.2, 0.4], [0.5, 0.9]), title="costs $5 and $6 _{ " * 12)
    path = tmp_path / "plot.png"
    report.plot(comparison, path)
    pixels = matplotlib.image.imread(BytesIO(path.read_bytes()), format="png")
    assert pixels.shape[:2] == (550, 900)
    assert pixels[..., :3].std() > 0.01  # something is drawn


def test_plot_of_a_single_evaluation(tmp_path: Path) -> None:
    run = make_run(tokens=(0,), metric=(0.0,), unit_accuracy=((0.0,) * 4,))
    report.plot(make_comparison(run), tmp_path / "plot.png")
    Page(render(make_comparison(run), tmp_path / "report.html"))


def test_known_strategies_keep_their_look_and_all_looks_differ() -> None:
    names = ["max_mi", "mine", "ntp", "other"]
    looks = report._looks(names)
    assert looks["max_mi"] == report._looks(["max_mi"])["max_mi"]
    assert len(set(looks.values())) == len(names)


# --- Page ---


def test_page_is_balanced_and_loads_nothing(tmp_path: Path) -> None:
    comparison = two_strategies([0.2, 0.4, 0.3], [0.5, 0.9, 0.8])
    text = render(comparison, tmp_path / "report.html")
    page = Page(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base"}
    for _, attributes in page.tags:
        assert not {"src", "href", "srcset", "data"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in text
    assert "@import" not in text
    assert "http://" not in text
    assert "https://" not in text
    assert report.headline(report.summarise(comparison)) in page.words


def test_page_numbers_the_digits_by_their_rank(tmp_path: Path) -> None:
    run = make_run("max_mi", samples=(make_sample(ORDERS["max_mi"], "0245", "0295"),))
    page = Page(render(make_comparison(run), tmp_path / "report.html"))
    titles = [attributes["title"] for tag, attributes in page.tags if attributes.get("title")]
    assert titles == [
        "predicted 1st: tens",
        "predicted 2nd: hundreds",
        "predicted 3rd: units",
        "predicted 4th: thousands",
    ]
    # rank, digit, place: the tens are wrong, and not by colour alone
    start = page.words.index("te ✗") - 2
    tiles = page.words[start : start + 12]
    assert tiles == ["1", "9", "te ✗", "2", "2", "h", "3", "5", "u", "4", "0", "th"]
    assert "✗ wrong" in page.words


def test_malformed_answers_are_shown_whatever_they_are(tmp_path: Path) -> None:
    bad = {"source": "35*07=", "target": "0245", "prediction": "", "correct": False}
    samples = ({**bad, "raw": ""}, {**bad, "raw": "42"}, {**bad, "raw": "9" * 500})
    page = Page(render(make_comparison(make_run(samples=samples)), tmp_path / "report.html"))
    assert "empty answer" in page.words
    assert page.words.count("? ✗") == 2 + report.TILES_SHOWN


def test_page_escapes_everything(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>'
    sample = {"source": evil, "target": evil, "prediction": evil, "raw": evil, "correct": False}
    run = make_run(evil, unit_names=(evil, "b", "c", "d"), samples=(sample,), bits=BITS)
    comparison = make_comparison(
        replace(run, estimator=evil),
        title=evil,
        metric_name=evil,
        config_yaml=evil,
        commit=evil,
        environment={evil: evil},
        command=evil,
    )
    text = render(comparison, tmp_path / "report.html")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    Page(text)


def test_budget_gives_the_share_of_the_selection(tmp_path: Path) -> None:
    comparison = two_strategies([0.2], [0.5])
    words = Page(render(comparison, tmp_path / "report.html")).words
    assert "10.00 %" in words  # 10 s of 90 + 10 s
    assert "90.0 s" in words
    assert "400,000" in words


# --- Files ---


def test_write_report_writes_three_files_and_nothing_else(tmp_path: Path) -> None:
    comparison = two_strategies([0.2, 0.4], [0.5, 0.9])
    out = tmp_path / "new" / "folder"
    summary = report.write_report(comparison, out)
    names = sorted(path.name for path in out.iterdir())
    assert names == ["comparison.json", "comparison.png", "report.html"]
    record = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert {key: record[key] for key in summary} == json.loads(json.dumps(summary))
    assert record["runs"][3]["metric"] == [0.0, 0.9, 0.9]


def test_an_earlier_report_survives_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = two_strategies([0.2], [0.5])
    report.write_report(comparison, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(comparison: Comparison, summary: dict[str, Any], path: Path) -> None:
        path.write_text("half a page")
        raise RuntimeError("no ink")

    monkeypatch.setattr(report, "render_html", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        report.write_report(two_strategies([0.9], [0.1]), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# --- Errors ---


def test_no_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="no runs"):
        report.summarise(make_comparison())


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"tokens": (1000, 2000, 4000)}, "same points"),
        ({"tokens": (1000, 3000, 2000)}, "increase"),
        ({"metric": (0.0, 0.5, 50.0)}, "metric 50.0, outside 0..1"),
        ({"metric": (0.0, 0.5, float("nan"))}, "metric nan, outside 0..1"),
        ({"metric": (0.0, 0.5)}, "one of each per evaluation"),
        ({"tokens": (), "metric": (), "unit_accuracy": ()}, "no evaluation"),
        ({"unit_accuracy": ((0.5,) * 4, (0.5,) * 4, (-0.1,) * 4)}, "unit_accuracy -0.1"),
        ({"unit_accuracy": ((0.5,) * 3,) * 3}, "lack one of 4 units"),
        ({"order": (0, 1, 2, 2)}, "no permutation"),
        ({"bits": (1.0, 2.0)}, "one finite number per unit"),
        ({"samples": ({"source": "1"},)}, "without correct, prediction, raw, target"),
        ({"train_seconds": -1.0}, "train_seconds -1.0"),
        ({"model_flops": float("inf")}, "model_flops inf"),
        ({"unit_names": ("a", "b", "c", "d")}, "runs of one task"),
        ({"seed": 0}, "occurs twice"),
    ],
)
def test_errors_name_the_run(changes: dict[str, Any], words: str) -> None:
    seed = changes.get("seed", 3)
    bad = replace(make_run("max_mi", 3), **changes)
    with pytest.raises(ValueError, match=rf"run 'max_mi', seed {seed} .*{words}"):
        report.summarise(make_comparison(make_run("max_mi", 0), bad))


def test_any_figures_make_a_balanced_page_and_a_narrow_table(tmp_path: Path) -> None:
    generator = random.Random(0)
    for trial in range(5):
        seeds = generator.randint(1, 4)
        names = generator.sample(
            ["ntp", "max_mi", "reverse", "random", "x", "y", "z", "w"], 1 + trial
        )
        runs = [make_run(name, s, generator.random()) for name in names for s in range(seeds)]
        comparison = make_comparison(*runs)
        Page(render(comparison, tmp_path / "report.html"))
        table = report.format_table(report.summarise(comparison))
        assert max(map(len, table.split("\n"))) <= 80
