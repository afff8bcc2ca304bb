"""The section `selection`: which target unit is predicted first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pretrain import registry
from pretrain.config.base import Fraction, NonNegativeInt, PositiveInt, Section

Strategy = Literal[
    "ntp",
    "reverse",
    "random",
    "frequency",
    "max_mi",
    "min_mi",
    "fixed",
    "learned",
    "any_order",
    "first",
    "blank",
]
Criterion = Literal["max_mi", "min_mi", "reverse", "random", "frequency", "fixed", "learned"]
FITTED_STRATEGIES = ("max_mi", "min_mi")
TABLELESS = ("v_information", *registry.ORDER_ESTIMATORS)
"""Estimators that leave no table behind that others could read."""
Decoding = Literal["natural", "criterion", "adaptive"]
OF_ANY_ORDER = ("criterion", "draw", "anneal_to", "decode")
"""Fields that only strategy any_order has a use for."""
OF_PLANS = (
    "plan_candidates", "plan_temperature", "plan_slot", "plan_share", "plan_draws", "plan_chain",
)  # fmt: skip
"""Fields that only texts with a token in front of sentences have a use for."""


class SelectionConfig(Section):
    """Which target unit is predicted first."""

    strategy: Strategy = "max_mi"
    """Order of the target's units: ntp (natural), reverse, random (one permutation drawn from
    selection.seed), frequency (labels, most frequent first), max_mi and min_mi (by mutual
    information with the source), fixed, learned (the order whose loss falls first), any_order
    (arithmetic, records and labels: each example in an order of its own, for one model that has
    them all). For text, the token that is put in front of each sentence: none (ntp), max_mi,
    min_mi, random (any token of the sentence), first (its first), blank (a token without
    content)."""
    estimator: str = "joint"
    """How MI(source; unit) is computed for max_mi and min_mi. Arithmetic: joint, pairwise and
    operand_pair from counts; k_local, the order that leaves the fewest bits to a learner that looks
    at k symbols, from counts; v_information, chain and any_order by a small probe or decoder that
    is trained to predict units, any_order in every order. Labels: presence (sum over the words of a
    text) and presence_top (mean over those that tell the most), one order for all texts; pmi and
    npmi, each text its own. Text: pmi and npmi. If not given, the first that the task has."""
    k: Annotated[int, Field(ge=1, le=4)] = 3
    """Symbols of the source and of the units before that are looked at together (k_local)."""
    features: Literal["before", "sentence"] = "sentence"
    """Which tokens a sentence's tokens are scored by: those of the sentences before it in its
    document, or the other ones of the sentence."""
    minimum_count: PositiveInt = 5
    """Pairs that were seen less often count as 0 (pmi, npmi)."""
    smoothing: Fraction = 0.75
    """Exponent of the distribution of features (pmi, npmi); 1 for none."""
    positive: bool = True
    """Leave negative values out (pmi, npmi)."""
    correction: Literal["none", "miller_madow", "shrinkage", "leave_one_out"] = "miller_madow"
    """Bias correction of the plug-in estimate; shrinkage and leave_one_out are for thin counts, and
    know nothing of a source that occurs once. k_local takes leave_one_out if not given, and
    corrects nothing where all but the held-out share of a domain is counted."""
    tie_bits: Annotated[float, Field(ge=0.0)] = 0.005
    """Units within this many bits of the best are tied; the last in natural order wins. Of orders
    (k_local), the nearest to natural order wins."""
    fixed: tuple[NonNegativeInt, ...] | None = None
    """Order for strategy fixed: a permutation of the units, numbered from the most significant."""
    seed: NonNegativeInt = 0
    """Seed of strategy random, of plans that are drawn, and of the decoders of estimator
    any_order."""
    fit_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    """Model FLOPs that estimator any_order may take, at most, as a share of those of the run."""
    criterion: Criterion = "max_mi"
    """The strategy that finds the criterion's order, which fields below can name (any_order)."""
    draw: Literal["uniform", "criterion"] = "uniform"
    """Orders that are trained on: all alike likely, or those near the criterion's more often
    (any_order)."""
    odds: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = 2.0
    """How much likelier each unit of the criterion's order is to be drawn next than the one after
    it, among those that are left (any_order with draw criterion)."""
    anneal_to: Literal["natural", "criterion"] | None = None
    """The order that training ends with: its share of the examples rises from 0 to 1; orders are
    drawn to the end if not given (any_order)."""
    anneal_from: Fraction = 0.2
    """Share of training.steps after which the share of anneal_to begins to rise (any_order)."""
    anneal_until: Fraction = 0.6
    """Share of training.steps after which all examples are in that order (any_order)."""
    decode: Decoding | None = None
    """The order that answers are written in for the score that counts: natural, the criterion's, or
    the unit that the model is surest of next; as anneal_to, or natural, if not given. Evaluations
    have the scores of all three. A model of sets of labels writes the surest (any_order)."""
    plan_candidates: PositiveInt = 1
    """Of how many best tokens of a sentence, each counted once, the one in front of it is drawn,
    anew in each pass over the text; 1 takes the best (text with max_mi or min_mi)."""
    plan_temperature: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    """A token with one bit more is 2^(1 / temperature) times as likely to be drawn; all candidates
    alike if not given (plan_candidates above 1)."""
    plan_slot: bool = False
    """The selected token leaves its place, where <blank> stands for it, instead of being written
    twice (text)."""
    plan_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the training sentences that have a token in front of them, drawn anew in each pass
    over the text; the others stand as they are (text)."""
    plan_draws: Annotated[int, Field(ge=1, le=256)] = 4
    """Tokens that are drawn for each held-out sentence, where there is a choice; each draw is an
    evaluation. Bounds are given for 1, 4, 16 and 64 as far as there are so many (text)."""
    plan_chain: bool = False
    """Also sum over the candidates of one held-out sentence after the other, a tighter bound: as
    many more evaluations as a sentence has candidates, times the most sentences of a window
    (text with plan_candidates above 1)."""
    chunk_tokens: Annotated[int, Field(ge=1024)] = 1_048_576
    """Tokens that each rank contributes to one exchange while counting."""
    memory_gb: Annotated[float, Field(gt=0.0)] = 4.0
    """GiB that each rank that reads data has for its rows of the table."""
    count_on: Literal["cpu", "gpu"] = "cpu"
    """Where pairs are counted: compiled loops on the CPU, or torch on this rank's GPU."""
    fit_tokens: PositiveInt | None = None
    """Tokens of the training split that are counted, of each source of a blend by its weight; every
    training document once if not given."""
    table: Path | None = None
    """Folder of a fitted table: loaded if it is there and belongs to this run (refused if it does
    not), else written after the fit. All ranks must see it."""
    refresh_every: NonNegativeInt = 0
    """Steps after which the batches seen since are added to the table and units are ordered anew;
    0 keeps the first order."""

    @property
    def memory_bytes(self) -> int:
        """Bytes that each rank has for its rows."""
        return int(self.memory_gb * 2**30)

    @property
    def any_order(self) -> bool:
        """Whether each example has an order of its own, which the model is told."""
        return self.strategy == "any_order"

    @property
    def ordered_by(self) -> Strategy:
        """The strategy that finds an order for all examples: the criterion of any_order."""
        return self.criterion if self.any_order else self.strategy

    @property
    def fitted(self) -> bool:
        """Whether an order, or each example's choice, rests on mutual information."""
        return self.ordered_by in FITTED_STRATEGIES

    @property
    def decoding(self) -> Decoding:
        """Of any_order for the score that counts, with the default resolved."""
        return self.decode or self.anneal_to or "natural"

    @model_validator(mode="after")
    def _orders_drawn(self) -> SelectionConfig:
        if self.anneal_from > self.anneal_until:
            raise ValueError(
                f"selection.anneal_from {self.anneal_from} is after selection.anneal_until "
                f"{self.anneal_until}; swap them"
            )
        if self.any_order:
            return self
        fields = type(self).model_fields
        for name in OF_ANY_ORDER:
            if (value := getattr(self, name)) != fields[name].default:
                raise ValueError(
                    f"selection.{name} {value} is of no use to selection.strategy "
                    f"{self.strategy}; leave it out, or use any_order"
                )
        return self

    @model_validator(mode="after")
    def _plans_drawn(self) -> SelectionConfig:
        many = self.plan_candidates > 1
        if many and self.strategy not in FITTED_STRATEGIES:
            raise ValueError(
                f"selection.plan_candidates {self.plan_candidates} is of no use to "
                f"selection.strategy {self.strategy}, which has no scores; leave it out, or use "
                "max_mi or min_mi"
            )
        if self.plan_temperature is not None and not many:
            raise ValueError(
                f"selection.plan_temperature {self.plan_temperature} is of no use where one token "
                "is the candidate; leave it out, or set selection.plan_candidates above 1"
            )
        if self.plan_chain and not many:
            raise ValueError(
                "selection.plan_chain true sums over the candidates of each sentence, which are "
                "one token, or all; leave it out, or set selection.plan_candidates above 1"
            )
        if self.plan_slot and self.strategy == "blank":
            raise ValueError(
                "selection.plan_slot true: strategy blank has no token that could leave its place; "
                "leave it out"
            )
        return self

    @model_validator(mode="after")
    def _table_used(self) -> SelectionConfig:
        fitted = self.fitted
        for name, given in (("table", self.table), ("refresh_every", self.refresh_every)):
            if not given:
                continue
            if not fitted:
                raise ValueError(
                    f"selection.{name} {given} is of no use to selection.strategy "
                    f"{self.ordered_by}, which fits nothing; leave it out, or use max_mi or min_mi"
                )
            if self.estimator in TABLELESS:
                raise ValueError(
                    f"selection.{name} {given}: estimator {self.estimator} has no table; leave it "
                    "out, or use joint, pairwise or operand_pair"
                )
            if name == "refresh_every" and self.estimator in ("pmi", "npmi"):
                raise ValueError(
                    f"selection.refresh_every {given}: scores of estimator {self.estimator} stay "
                    "as they were fitted; leave it out"
                )
        return self

    @model_validator(mode="after")
    def _orders_have_one_end(self) -> SelectionConfig:
        if self.estimator in registry.ORDER_ESTIMATORS and self.ordered_by == "min_mi":
            raise ValueError(
                f"selection.estimator {self.estimator} looks for the best order only; use it with "
                "selection.strategy max_mi"
            )
        return self

    @model_validator(mode="after")
    def _counted_there(self) -> SelectionConfig:
        if self.fitted and self.estimator == "k_local" and self.count_on == "gpu":
            raise ValueError(
                "selection.count_on gpu: estimator k_local counts on the CPU; set it to cpu"
            )
        return self

    @model_validator(mode="after")
    def _fixed_given(self) -> SelectionConfig:
        if self.ordered_by == "fixed" and self.fixed is None:
            raise ValueError(
                "selection.strategy fixed needs selection.fixed, for example [3, 2, 1, 0]"
            )
        if self.fixed is not None and sorted(self.fixed) != list(range(len(self.fixed))):
            raise ValueError(
                f"selection.fixed {list(self.fixed)} is not a permutation of 0..n-1; name every "
                "unit once"
            )
        return self
