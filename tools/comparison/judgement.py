"""How well a criterion foretells which orders of a target's units a model learns best.

What is true is a comparison of trained orders (`tools.compare_strategies --orders`): of each order
the area under its curve (the mean of the score over all tokens), the score after a third of the
tokens, and the last one. A criterion is held to it by

    regret = score of the best order that was trained - score of the order that it chooses
    tau    = Kendall's rank correlation (tau-b) of its costs with the scores, over trained orders,
             the sign such that 1 is perfect

with an interval of tau by the percentile bootstrap over orders.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.errors import UserError
from pretrain.selection.orders.strategies import Order

MEASURES = {"area": "area", "third": "third", "end": "mean"}
"""Names of the scores, and where a comparison has each."""
RESAMPLES = 1000


@dataclass(frozen=True)
class Trained:
    """Orders that were trained, and what they came to.

    Attributes:
        title: of the task.
        seeds: of each order.
        scores: of each order by measure, one for each seed; higher is better.
        config_yaml: of the runs.
        origin: commit and command of the comparison.
    """

    title: str
    seeds: tuple[int, ...]
    scores: Mapping[Order, Mapping[str, tuple[float, ...]]]
    config_yaml: str
    origin: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Trained:
        """Of a comparison's folder.

        Raises:
            UserError: it has no comparison of whole orders, or some seeds of an order are missing.
        """
        path = folder / "comparison.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            orders = {run["strategy"]: run["order"] for run in found["runs"]}
            several = {name: found["strategies"][name] for name in orders}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: expected a comparison of tools.compare_strategies ({error!r})"
            ) from error
        if not found["higher_is_better"] or not all(orders.values()):
            raise UserError(
                f"{path}: expected one order of units for every strategy and a score of which more "
                "is better; make it with tools.compare_strategies --orders"
            )
        seeds = {tuple(summary["seeds"]) for summary in several.values()}
        if len(seeds) != 1:
            raise UserError(
                f"{path}: orders have different seeds, found {sorted(seeds)}; finish the comparison"
            )
        scores: dict[Order, Mapping[str, tuple[float, ...]]] = {}
        for name, summary in several.items():
            ends = {**summary, "mean": summary}
            # Two strategies that came to the same order trained alike.
            scores[tuple(orders[name])] = {
                measure: tuple(ends[key]["per_seed"]) for measure, key in MEASURES.items()
            }
        return cls(
            found["title"],
            seeds.pop(),
            scores,
            found["config_yaml"],
            {name: found[name] for name in ("commit", "command")},
        )

    def mean(self, order: Order, measure: str) -> float:
        """Over seeds."""
        return float(np.mean(self.scores[order][measure]))

    def best(self, measure: str) -> Order:
        """The order with the highest mean; the first as a word where several have it."""
        return max(sorted(self.scores), key=lambda order: self.mean(order, measure))

    def regret(self, order: Order, measure: str) -> float | None:
        """Of an order; None where it was not trained."""
        if order not in self.scores:
            return None
        return self.mean(self.best(measure), measure) - self.mean(order, measure)

    def agreement(self, measure: str) -> float | None:
        """Mean tau of each two seeds: what no criterion can be expected to exceed by much."""
        several = np.array([self.scores[order][measure] for order in self.scores]).T
        pairs = [(a, b) for a in range(len(several)) for b in range(a)]
        if not pairs or len(self.scores) < 3:
            return None
        return float(np.mean([tau(several[a], several[b]) for a, b in pairs]))

    def foretold(
        self, cost: Callable[[Order], float], measure: str, seed: int = 0
    ) -> tuple[float, float, float] | None:
        """tau of costs with scores, and its 95 % interval; None for fewer than three orders."""
        orders = sorted(self.scores)
        if len(orders) < 3:
            return None
        costs = -np.array([cost(order) for order in orders])
        scores = np.array([self.mean(order, measure) for order in orders])
        random = np.random.default_rng(seed)
        drawn = random.integers(len(orders), size=(RESAMPLES, len(orders)))
        several = [tau(costs[rows], scores[rows]) for rows in drawn]
        low, high = np.quantile(several, [0.025, 0.975])
        return tau(costs, scores), float(low), float(high)

    def as_json(self) -> dict[str, Any]:
        """Everything but the configuration; orders as `0-3-2-1`."""
        return {
            "title": self.title,
            **self.origin,
            "seeds": list(self.seeds),
            "orders": {
                "-".join(map(str, order)): {
                    measure: [round(value, 4) for value in values]
                    for measure, values in self.scores[order].items()
                }
                for order in sorted(self.scores)
            },
            "agreement_of_seeds": {measure: self.agreement(measure) for measure in MEASURES},
        }


def tau(first: np.ndarray, second: np.ndarray) -> float:
    """Kendall's tau-b of two rankings; 0 where one of them has only ties."""
    from scipy.stats import kendalltau

    found = float(kendalltau(first, second).statistic)
    return 0.0 if np.isnan(found) else found
