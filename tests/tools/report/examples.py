"""Made-up runs and comparisons, and a reader of pages, for the tests of the reports."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from pretrain.tasks.arithmetic.presentation import ArithmeticPresentation
from pretrain.tasks.multilabel.presentation import MultilabelPresentation
from pretrain.tasks.text.presentation import TextPresentation
from tools import report
from tools.report import Comparison, RunResult
from tools.report.page import render_html

UNITS = ("thousands", "hundreds", "tens", "units")
ORDERS = {"ntp": (0, 1, 2, 3), "max_mi": (2, 1, 3, 0), "reverse": (3, 2, 1, 0)}
BITS = (2.71, 3.30, 3.31, 3.03)
MEASURES = {
    "exact_match": {"better": "higher", "unit": "share", "comparable": True},
    "micro_f1": {"better": "higher", "unit": "share", "comparable": True},
    "macro_f1": {"better": "higher", "unit": "share", "comparable": True},
    "predicted_length": {"better": None, "unit": "labels", "comparable": True},
    "joint_bits_per_token": {"better": "lower", "unit": "bits", "comparable": True},
    "conditional_perplexity": {"better": "lower", "unit": "perplexity", "comparable": False},
    "rouge1": {"better": "higher", "unit": "share", "comparable": True},
    "plan_bits": {"better": "lower", "unit": "bits", "comparable": False},
}
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
        metrics={"exact_match": (0.0, 0.9, final)},
        unit_accuracy=((0.1, 0.1, 0.1, 0.1), (0.9, 0.9, 0.9, 0.9), (0.8, 0.6, 0.4, final)),
        samples=(make_sample(order, "0245", "0245"), make_sample(order, "0245", "0295")),
        train_seconds=90.0 + seed,
        selection_seconds=10.0 if strategy == "max_mi" else 0.0,
        selection_flops=None,
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
        task="arithmetic",
        presentation=ArithmeticPresentation(),
        measures=MEASURES,
    )
    return replace(comparison, **changes)


def two_strategies(ntp: list[float], max_mi: list[float]) -> Comparison:
    runs = [make_run("ntp", seed, final) for seed, final in enumerate(ntp)]
    runs += [make_run("max_mi", seed, final) for seed, final in enumerate(max_mi)]
    return make_comparison(*runs)


def render(comparison: Comparison, path: Path) -> str:
    render_html(comparison, report.summarise(comparison), path)
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


LABELS = tuple(f"role::label {number}" for number in range(40))


def make_label_run(strategy: str = "ntp", seed: int = 0, final: float = 0.5) -> RunResult:
    """Labels: hundreds of units in earnest, and no accuracy of each."""
    fitted = strategy.startswith("max_mi")
    text, truth = "a <b>text</b>", "role::label 1, role::label 2"
    return make_run(
        strategy,
        seed,
        order=() if "pmi" in strategy else tuple(reversed(range(40))),
        unit_names=LABELS,
        bits=tuple(number / 100 for number in range(40)) if fitted else None,
        estimator="presence" if fitted else None,
        metrics={
            "micro_f1": (0.1, 0.2, final),
            "macro_f1": (0.1, 0.1, final / 2),
            "predicted_length": (3.0, 4.0, 4.5 + seed),
        },
        unit_accuracy=((), (), ()),
        samples=(
            {
                "source": text,
                "target": truth,
                "prediction": "role::label 2, role::label 7",
                "raw": "role::label 7, role::label 2",
                "correct": False,
            },
        ),
    )


def make_text_run(strategy: str = "ntp", seed: int = 0, final: float = 6.0) -> RunResult:
    """Text: no units, a metric that is better when lower, two kinds of samples."""
    metrics = {
        "joint_bits_per_token": (9.0, 7.0, final),
        "conditional_perplexity": (900.0, 120.0, 64.0 + seed),
        "rouge1": (0.05, 0.1, 0.12),
    }
    if strategy != "ntp":
        metrics["plan_bits"] = (12.0, 10.0, 9.0)
    return make_run(
        strategy,
        seed,
        order=(),
        unit_names=(),
        bits=None,
        estimator="pmi" if strategy.startswith("max_mi") else None,
        metrics=metrics,
        unit_accuracy=((), (), ()),
        samples=(
            {
                "kind": "generation",
                "source": "But soft",
                "raw": "<plan> window </plan> the <plan> unclosed",
                "prediction": "the",
                "selected": ["window"],
                "score": 0.25,
                "deep": {"a": [1, None]},
            },
            {
                "kind": "sentence",
                "text": "It is the east.",
                "tokens": ["It", "is", "the", "east", "."],
                "position": 3,
                "selected": "east",
            },
        ),
    )


def label_comparison(*runs: RunResult, **changes: Any) -> Comparison:
    return make_comparison(
        *runs,
        task="multilabel",
        presentation=MultilabelPresentation(),
        metric_name="micro_f1",
        **changes,
    )


def text_comparison(*runs: RunResult, **changes: Any) -> Comparison:
    return make_comparison(
        *runs,
        task="text",
        presentation=TextPresentation(),
        metric_name="joint_bits_per_token",
        higher_is_better=False,
        **changes,
    )
