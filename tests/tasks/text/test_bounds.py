"""Bounds of a language whose p(x) is known, and what they are made of."""

import math
from functools import cache
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.ragged import Documents
from pretrain.selection.orders.plans import Plans
from pretrain.selection.orders.transforms import Insert
from pretrain.tasks.text.bounds import (
    Bounds,
    bounds_of,
    chained,
    enumerated,
    importance_weighted,
    shared,
    turns,
)
from pretrain.tasks.text.data import Text, lay_out
from pretrain.tasks.text.scores import kinds_of
from pretrain.tasks.text.windows import Windows

WORDS, END, OPENING, CLOSING, SLOT, PAD = 4, 4, 5, 6, 7, 8
VOCABULARY = 9
TEXT = Text(
    Documents.of([[0, 1, 2], [3, 1], [], [2, 2, 0], [1], [3, 0, 1, 2], [0, 3]]),
    np.array([0, 3, 5, 7]),
)


@cache
def probabilities(context: tuple[int, ...]) -> np.ndarray:
    """p(token | all tokens before it): any, but the same for the same tokens."""
    generator = np.random.default_rng([17, *context])
    return generator.dirichlet(np.full(VOCABULARY, 0.7))


class Language:
    """Text in windows, predicted by :func:`probabilities`; plans are any of `plans`."""

    def __init__(self, length: int, slot: bool, plans: Plans, apart: bool = True) -> None:
        self.transform = Insert(OPENING, CLOSING, slot=SLOT if slot else None)
        self.length, self.plans, self.apart = length, plans, apart
        self.numbers = np.arange(len(TEXT.sentences))
        self.windows = self.cut(plans.at(np.zeros(len(self.numbers), dtype=np.int64)))

    def cut(self, places: np.ndarray) -> Windows:
        laid = lay_out(TEXT, self.numbers, places, self.transform, END)
        documents = np.searchsorted(TEXT.firsts, self.numbers, side="right")
        kinds = kinds_of(laid, self.transform, END)
        return Windows.of(laid, kinds, documents, self.length, END, PAD, self.apart)

    def nats(self, windows: Windows) -> np.ndarray:
        """[cells] of the labels, one by one."""
        found = np.zeros(len(windows.cell_units))
        for tokens, labels, cells in zip(
            windows.tokens, windows.labels, windows.cells, strict=True
        ):
            start = 0
            for place, (label, cell) in enumerate(zip(labels, cells, strict=True)):
                if cell < 0:
                    continue
                if self.apart and tokens[place] == END:
                    start = place
                context = tuple(tokens[start : place + 1].tolist())
                found[cell] -= math.log(probabilities(context)[label])
        return found

    def score(self, columns: np.ndarray) -> np.ndarray:
        return self.nats(self.cut(self.plans.at(columns)))

    def marginal(self, of: Plans | None = None) -> float:
        """-log of the sum over all plans, gone through one by one."""
        plans = self.plans if of is None else of
        total = -math.inf
        for columns in product(*(range(max(1, count)) for count in plans.counts)):
            nats = self.nats(self.cut(plans.at(np.array(columns)))).sum()
            total = np.logaddexp(total, -nats)
        return -float(total)

    def bounds(self, draws: int, most: int, seed: int = 0) -> tuple[float, Bounds]:
        generator = np.random.default_rng(seed)
        numbers = generator.random((draws, len(self.numbers)))
        columns = np.stack([self.plans.drawn(each) for each in numbers])
        columns = shared(columns, self.windows)
        cells = np.stack([self.score(each) for each in columns])
        last = generator.random(len(self.numbers))
        found = bounds_of(self.plans, self.windows, columns, cells, self.score, most, last)
        return float(cells.sum(axis=1).mean()), found


def plans(most: int, seed: int = 0) -> Plans:
    """Up to `most` candidates of each sentence, each token once, with shares that differ."""
    generator, offsets = np.random.default_rng(seed), TEXT.sentences.offsets
    shares = np.zeros(len(TEXT.sentences.tokens))
    for begin, end in pairwise(offsets):
        own = TEXT.sentences.tokens[begin:end].tolist()
        last = [begin + place for place, token in enumerate(own) if token not in own[place + 1 :]]
        chosen = last[-most:]
        if chosen:
            shares[chosen] = generator.dirichlet(np.full(len(chosen), 5.0))
    return Plans.of(shares, offsets)


@pytest.mark.parametrize("slot", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_the_exact_marginal_is_the_sum_over_all_plans(slot, apart):
    language = Language(64, slot, plans(4), apart)
    truth = language.marginal()
    first = np.zeros(7, dtype=np.int64)
    assert language.windows.units == (3 if apart else 1)
    exact = enumerated(language.plans, language.windows, first, language.score, 1000)
    assert exact == pytest.approx(truth)
    assert enumerated(language.plans, language.windows, first, language.score, 2) is None


@pytest.mark.parametrize("slot", [False, True])
@pytest.mark.parametrize("length", [6, 9, 13, 64])
@pytest.mark.parametrize("apart", [False, True])
def test_bounds_stand_in_their_order_above_the_truth(slot, length, apart):
    language = Language(length, slot, plans(3), apart)
    truth = language.marginal()
    assert truth >= language.marginal(plans(9)) - 1e-9  # more plans, of which q knows nothing
    found, joints, sums = [], [], []
    for seed in range(24):
        joint, bounds = language.bounds(64, 64, seed)
        entropy = language.plans.entropy.sum()
        assert bounds.elbo == pytest.approx(joint - entropy)
        joints.append(joint)
        found.append([bounds.elbo, *bounds.importance.values(), bounds.chain])
        sums.append(bounds.exact if bounds.exact is not None else math.nan)
    elbo, iw_1, iw_4, iw_16, iw_64, chain = np.mean(found, axis=0)
    error = 4 * np.std(found, axis=0).max() / math.sqrt(len(found))
    assert np.mean(joints) > elbo
    assert elbo == pytest.approx(iw_1, abs=error)
    for above, below in ((elbo, iw_4), (iw_4, iw_16), (iw_16, iw_64), (iw_64, truth)):
        assert above > below - error
    assert elbo > iw_64
    assert chain > truth - error
    if length == 64 and not np.isnan(sums).any():
        assert sums == pytest.approx([truth] * len(sums))
    elif not np.isnan(sums).any():
        assert truth - error < np.mean(sums) < elbo


@pytest.mark.parametrize("length", [9, 64])
def test_chains_sums_have_the_marginal_as_their_mean(length):
    """Whole sentences only: with a sentence for each unit there is nothing left to draw."""
    language = Language(length, True, plans(3))
    columns = np.zeros(7, dtype=np.int64)
    exact = enumerated(language.plans, language.windows, columns, language.score, 1000)
    generator = np.random.default_rng(3)
    drawn = [
        chained(language.plans, language.windows, columns, language.score, generator.random(7))
        for _ in range(400)
    ]
    ratios = np.exp(exact - np.array(drawn))  # estimates of p(x), as shares of it
    assert ratios.mean() == pytest.approx(1.0, abs=4 * ratios.std() / 20 + 1e-9)
    assert np.mean(drawn) >= exact - 1e-9


@pytest.mark.parametrize("length", [7, 64])
def test_one_plan_is_bounded_by_what_it_costs(length):
    language = Language(length, False, plans(1))
    joint, bounds = language.bounds(1, 64)
    assert set(bounds.named) == {"elbo", "iw_1", "iw_4", "iw_16", "iw_64", "chain", "exact"}
    assert list(bounds.named.values()) == pytest.approx([joint] * 7)


def test_a_plan_touches_the_unit_that_it_is_open_in_and_no_other():
    for length, apart in product((5, 8, 9, 10, 21), (False, True)):
        language = Language(length, True, plans(9), apart)
        windows, first = language.windows, np.zeros(7, dtype=np.int64)
        before = np.bincount(windows.cell_units, language.score(first))
        for sentence, count in enumerate(language.plans.counts):
            if count < 2:
                continue
            changed = first.copy()
            changed[sentence] = 1
            after = np.bincount(windows.cell_units, language.score(changed))
            touched = np.flatnonzero(before != after).tolist()
            if windows.open_in[sentence] >= 0:
                assert touched == [windows.open_in[sentence]]
        for turn in turns(windows):
            assert len(set(windows.open_in[turn])) == len(turn)


def test_windows_of_known_text():
    language = Language(9, False, plans(1))
    windows = language.windows
    # <end> <plan> 2 </plan> 0 1 2 <plan> 1 | </plan> 3 1 <end> <plan> 0 </plan> 2 2 | 0 <plan> ...
    assert windows.labels[0].tolist() == [OPENING, 2, CLOSING, 0, 1, 2, OPENING, 1, CLOSING]
    assert windows.labels[1].tolist() == [3, 1, END, OPENING, 0, CLOSING, 2, 2, 0]
    assert windows.open_in.tolist()[:2] == [0, -1]
    sentences = windows.cell_sentences[windows.cells]
    assert sentences[0].tolist() == [0] * 6 + [1] * 3
    assert sentences[1].tolist() == [1, 1, 2] + [3] * 6
    units = windows.cell_units[windows.cells]
    assert units[0].tolist() == [0] * 9
    assert units[1].tolist() == [1] * 3 + [2] * 6
    assert (windows.labels[-1][windows.cells[-1] >= 0][-1]) == END


@given(
    st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=3), min_size=4, max_size=4),
)
@settings(max_examples=40)
def test_importance_weights_of_one_draw_are_the_mean(rows):
    width = min(map(len, rows))
    terms = np.array([row[:width] for row in rows])
    assert importance_weighted(terms, 1) == pytest.approx(terms.sum(axis=1).mean())
    expected = -np.log(np.exp(-terms).mean(axis=0)).sum()
    assert importance_weighted(terms, 4) == pytest.approx(expected)
    assert importance_weighted(terms, 4) <= importance_weighted(terms, 2) + 1e-9


def test_bounds_of_parts_add_up():
    one, two = Bounds(3.0, {1: 3.0}, 1.0, None), Bounds(4.0, {1: 5.0}, 2.0, 1.0)
    assert Bounds.total([one, two]) == Bounds(7.0, {1: 8.0}, 3.0, None)
