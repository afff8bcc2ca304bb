from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.config import load_config
from pretrain.ragged import Documents
from pretrain.selection.estimators import chain
from pretrain.selection.estimators.chain import chain_order
from pretrain.selection.fitter import CountingFitter
from pretrain.selection.orders import learned
from pretrain.selection.orders.decoder import LearnedSettings
from pretrain.selection.orders.learned import learn_order
from pretrain.selection.orders.strategies import choose_candidates, choose_order, order_by_bits
from pretrain.selection.orders.transforms import ROOM, Insert, Reorder
from pretrain.selection.selector import Selection, from_json
from pretrain.tasks.fixed_width import selection as positions
from pretrain.tasks.fixed_width.data import Examples

STRATEGIES = ("ntp", "reverse", "random", "max_mi", "min_mi", "fixed")


@given(
    st.sampled_from(STRATEGIES),
    st.lists(st.floats(0, 4), min_size=1, max_size=7),
    st.integers(0, 20),
    st.data(),
)
def test_restore_takes_back_every_strategy(strategy, bits, seed, data):
    units = len(bits)
    fixed = data.draw(st.permutations(range(units)))
    transform = Reorder(choose_order(strategy, units, bits, 0.005, seed, fixed))
    target = np.random.default_rng(seed).integers(0, 10, (3, units))
    assert np.array_equal(transform.restore(transform.apply(target)), target)
    assert np.array_equal(transform.apply(transform.restore(target)), target)


def test_the_first_unit_of_the_order_is_predicted_first():
    transform = Reorder((2, 0, 1))
    assert transform.apply(np.array([10, 11, 12])).tolist() == [12, 10, 11]


def test_known_orders():
    assert choose_order("ntp", 4) == (0, 1, 2, 3)
    assert choose_order("reverse", 4) == (3, 2, 1, 0)
    assert choose_order("fixed", 3, fixed=[1, 2, 0]) == (1, 2, 0)
    assert choose_order("max_mi", 3, [1.0, 3.0, 2.0]) == (1, 2, 0)
    assert choose_order("min_mi", 3, [1.0, 3.0, 2.0]) == (0, 2, 1)
    assert choose_order("random", 9, seed=1) == choose_order("random", 9, seed=1)
    assert choose_order("random", 9, seed=1) != choose_order("random", 9, seed=2)


def test_ties_go_to_the_unit_that_comes_last():
    assert order_by_bits([1.0, 1.004, 1.0], 0.005) == (2, 1, 0)
    assert order_by_bits([1.0, 1.006, 1.0], 0.005) == (1, 2, 0)
    assert order_by_bits([2.0, 2.0, 2.0], 0.005, largest_first=False) == (2, 1, 0)
    assert order_by_bits([1.0, 1.0], 0.0) == (1, 0)


def test_what_a_strategy_lacks_is_named():
    with pytest.raises(ValueError, match="needs the bits of 3 units, found none"):
        choose_order("max_mi", 3)
    with pytest.raises(ValueError, match="not a permutation of the 3 units"):
        choose_order("fixed", 3, fixed=[0, 1])
    with pytest.raises(ValueError, match="unknown strategy"):
        choose_order("best", 3)


def test_a_target_of_the_wrong_width_is_refused():
    with pytest.raises(ValueError, match="expected 2 units, found 3"):
        Reorder((1, 0)).apply(np.zeros((1, 3)))


def fitter(source, target, names, **settings):
    config = load_config(None, {"selection": settings})
    examples = Examples(source, target, tuple(range(source.shape[1])))
    return CountingFitter(
        config, positions.PositionRule(config.selection, examples, 10, names), "digits"
    )


def fitted(**settings):
    rng = np.random.default_rng(0)
    source = rng.integers(0, 10, (300, 2))
    target = np.stack([source.sum(axis=1) // 10, source.sum(axis=1) % 10], axis=1)
    return fitter(source, target, ("tens", "units"), **settings).fit(None)[0]


def test_a_selection_survives_its_file_and_a_changed_file_is_refused():
    selection = fitted(estimator="joint")
    assert from_json(selection.to_json()) == selection
    changed = selection.to_json().replace('"max_mi"', '"min_mi"')
    with pytest.raises(ValueError, match="fingerprint"):
        from_json(changed)


def test_the_fingerprint_tells_selections_apart():
    prints = {
        fitted(**settings).fingerprint
        for settings in (
            {"strategy": "ntp"},
            {"strategy": "reverse"},
            {"strategy": "max_mi"},
            {"strategy": "min_mi"},
            {"strategy": "max_mi", "estimator": "pairwise"},
            {"strategy": "max_mi", "correction": "none"},
        )
    }
    assert len(prints) == 6
    assert fitted().fingerprint == fitted().fingerprint


def test_the_table_shows_scores_and_order():
    text = fitted(estimator="joint").table()
    assert "MI(source; unit), estimator joint" in text
    assert "what k symbols tell of each unit" in fitted(estimator="k_local").table()
    assert "units" in text
    assert "bits" in text
    assert "order of max_mi: units, tens" in text


def test_the_last_candidate_within_the_tie_is_chosen():
    scores = np.array([1.0, 3.0, 2.999, 0.0, 5.0, 5.0])
    offsets = np.array([0, 3, 3, 4, 6])
    assert choose_candidates(scores, offsets, 0.005).tolist() == [2, -1, 3, 5]
    assert choose_candidates(scores, offsets, 0.0).tolist() == [1, -1, 3, 5]
    assert choose_candidates(scores, offsets, 0.0, largest_first=False).tolist() == [0, -1, 3, 5]
    assert choose_candidates(scores[:0], np.array([0, 0])).tolist() == [-1]


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=6), st.data())
def test_inserted_tokens_are_taken_away_again(sentences, data):
    insert = Insert(10, 11)
    documents = Documents.of(sentences)
    chosen = [
        data.draw(st.integers(start, stop - 1)) if stop > start else -1
        for start, stop in pairwise(documents.offsets.tolist())
    ]
    planned = insert.apply(documents, np.array(chosen, dtype=np.int64))
    assert planned.lengths.tolist() == insert.lengths(documents).tolist()
    for d, sentence in enumerate(sentences):
        own = planned.between(d, d + 1).tokens.tolist()
        if sentence:
            assert own == [10, documents.tokens[chosen[d]], 11, *sentence]
        else:
            assert own == []
        assert insert.restore(np.array(own, dtype=np.int32)).tolist() == sentence
    assert insert.restore(planned.tokens).tolist() == documents.tokens.tolist()


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=6), st.data())
def test_tokens_that_left_their_place_are_put_back(sentences, data):
    insert = Insert(10, 11, slot=12)
    documents = Documents.of(sentences)
    chosen = [
        data.draw(st.integers(start, stop - 1)) if stop > start else -1
        for start, stop in pairwise(documents.offsets.tolist())
    ]
    planned = insert.apply(documents, np.array(chosen, dtype=np.int64))
    assert planned.lengths.tolist() == insert.lengths(documents).tolist()
    for d, sentence in enumerate(sentences):
        own = planned.between(d, d + 1).tokens.tolist()
        if sentence:
            place = chosen[d] - int(documents.offsets[d])
            moved = [*sentence[:place], 12, *sentence[place + 1 :]]
            assert own == [10, sentence[place], 11, *moved]
            assert sorted(own[1:2] + own[3:]) == sorted([12, *sentence])  # none twice
    assert insert.restore(planned.tokens).tolist() == documents.tokens.tolist()


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), max_size=6), st.data())
@pytest.mark.parametrize("slot", [None, 12])
def test_a_sentence_that_stays_as_it_is_leaves_room(slot, sentences, data):
    insert, documents = Insert(10, 11, slot=slot), Documents.of(sentences)
    stays = data.draw(st.lists(st.booleans(), min_size=len(sentences), max_size=len(sentences)))
    chosen = np.where(np.array(stays, dtype=bool), -1, documents.offsets[:-1])
    planned = insert.apply(documents, chosen)
    assert planned.lengths.tolist() == insert.lengths(documents).tolist()
    for d, sentence in enumerate(sentences):
        if stays[d]:
            assert planned.between(d, d + 1).tokens.tolist() == [ROOM] * 3 + sentence


@pytest.mark.parametrize(
    "written,restored",
    [
        ([12], []),
        ([10, 5, 11, 1, 12, 2, 12], [1, 5, 2]),
        ([10, 5, 11, 1], [1]),
        ([10, 5, 11, 10, 6, 11, 12, 12], [6]),
        ([12, 10, 5, 11, 12], [5]),
        ([10, 12, 11, 12, 3], [12, 3]),
    ],
)
def test_slots_and_tokens_that_stand_alone_are_taken_away(written, restored):
    assert Insert(10, 11, slot=12).restore(np.array(written)).tolist() == restored


@pytest.mark.parametrize(
    "written,restored",
    [
        ([10], []),
        ([10, 1], [1]),
        ([11, 1, 10], [1]),
        ([10, 10, 5, 11, 2], [2]),
        ([10, 1, 2, 11], [1, 2]),
    ],
)
def test_marks_that_stand_alone_are_taken_away_alone(written, restored):
    assert Insert(10, 11).restore(np.array(written)).tolist() == restored


@pytest.mark.parametrize(
    "asked",
    [{"strategy": "learned"}, {"strategy": "max_mi", "estimator": "chain"}],
    ids=["learned", "chain"],
)
def test_a_selection_from_a_decoder_says_what_it_cost(monkeypatch, asked):
    few = LearnedSettings(steps=20, finalists=2, alone=2, batch=16, scored=32, hidden_size=8)
    monkeypatch.setattr(learned, "learn_order", partial(learn_order, settings=few))
    monkeypatch.setattr(chain, "chain_order", partial(chain_order, settings=few))
    values = np.random.default_rng(0).integers(0, 10, (200, 3))
    done: list[int] = []
    selection, table = fitter(values, values, ("a", "b", "c"), **asked).fit(None, done.append)
    assert table is None
    assert sorted(selection.order) == [0, 1, 2]
    assert selection.flops > 0
    assert selection.examples == 200
    assert sum(done) == 2 * (values.size + values.size)
    assert from_json(selection.to_json()) == selection


def test_the_fingerprint_knows_what_examples_are_scored_by():
    first, other = (
        Selection("max_mi", (), (), "pmi", evidence=evidence) for evidence in ("one", "other")
    )
    assert first.fingerprint != other.fingerprint
