"""Tokens in front of sentences that are drawn, leave their place, or are given to a share."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.config import load_config
from pretrain.data.batch import Sampler
from pretrain.data.blend import BlendSampler, Source
from pretrain.data.skipped import Passed, PassingSampler, Stretch
from pretrain.errors import ConfigError
from pretrain.ragged import Documents, Examples, stream_of
from pretrain.selection.estimators.pointwise import Pointwise, Scorer
from pretrain.selection.orders.plans import Plans
from pretrain.selection.orders.transforms import ROOM, Insert
from pretrain.selection.selector import Selection
from pretrain.selection.table.counts import Pairs, count_pairs
from pretrain.tasks.text.batches import PackedBatches
from pretrain.tasks.text.data import Text, lay_out
from pretrain.tasks.text.selection import Chooser

RANDOM = np.random.default_rng(0)
SIZE, OPENING, CLOSING, END, SLOT, PAD = 30, 30, 31, 32, 33, 34
LENGTHS = RANDOM.integers(0, 9, 120)
SENTENCES = Documents.of([RANDOM.integers(0, SIZE, length).tolist() for length in LENGTHS])
TEXT = Text(SENTENCES, np.array([0, 20, 21, 70, 120]))
COUNTS = count_pairs(stream_of(Examples(SENTENCES), 100), SIZE, SIZE, Pairs())
NUMBERS = np.arange(len(SENTENCES))
LENGTH = 16


def chooser(strategy="max_mi", **fields) -> Chooser:
    scorer = Scorer(COUNTS, Pointwise(minimum_count=1)) if strategy.endswith("_mi") else None
    return Chooser(Selection(strategy), scorer, seed=4, **fields)


def batches(choose: Chooser, slot: bool, rank=0, ranks=1, batch=4) -> PackedBatches:
    how = Insert(OPENING, CLOSING, slot=SLOT if slot else None)
    sampler = Sampler(TEXT.packed(how, LENGTH).sequences, batch, 1)
    return PackedBatches(TEXT, how, END, sampler, lambda _: choose, rank, ranks, LENGTH, pad_id=PAD)


@pytest.mark.parametrize("strategy", ["max_mi", "min_mi"])
def test_what_is_drawn_is_a_pure_function_of_seed_sentence_and_epoch(strategy):
    choose = chooser(strategy, candidates=3, share=0.7)
    epochs = np.arange(len(NUMBERS)) % 4
    whole = choose(TEXT, NUMBERS, epochs)
    backwards = choose(TEXT, NUMBERS[::-1], epochs[::-1])[::-1]
    alone = [int(choose(TEXT, NUMBERS[k : k + 1], epochs[k : k + 1])[0]) for k in NUMBERS]
    assert whole.tolist() == backwards.tolist() == alone
    passes = np.stack([choose(TEXT, NUMBERS, np.full(len(NUMBERS), e)) for e in range(50)])
    assert choose(TEXT, NUMBERS).tolist() == passes[0].tolist()
    assert (passes[1:] != passes[:1]).any(axis=0)[LENGTHS > 0].all()
    planned = passes[:, LENGTHS > 0] >= 0
    assert planned.mean() == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize("temperature", [None, 0.5])
@pytest.mark.parametrize("features", [None, 8])
def test_plans_are_drawn_by_their_shares_in_training(temperature, features):
    choose = chooser(candidates=3, temperature=temperature, window=features)
    shares, sentences = choose.shares(TEXT, NUMBERS)
    assert sentences.tokens.tolist() == SENTENCES.tokens.tolist()
    drawn = np.stack([choose(TEXT, NUMBERS, np.full(len(NUMBERS), e)) for e in range(600)])
    plans = Plans.of(shares, SENTENCES.offsets)
    for number in NUMBERS[LENGTHS > 0][:30]:
        tokens = SENTENCES.between(number, number + 1).tokens
        assert plans.counts[number] == min(3, len(set(tokens.tolist())))
        places = plans.places[number, : plans.counts[number]]
        often = [(drawn[:, number] == place).mean() for place in places]
        assert often == pytest.approx(plans.shares[number, : len(places)], abs=0.09)
        assert int(chooser(window=features)(TEXT, np.array([number]))[0]) in places
        if temperature is None:
            assert plans.shares[number, : len(places)] == pytest.approx(1 / len(places))


def test_equal_tokens_are_one_plan_unless_they_leave_their_place():
    text = Text(Documents.of([[5, 5, 6], [], [7]]), np.array([0, 3]))
    numbers = np.arange(3)
    shares, _ = chooser("random").shares(text, numbers)
    assert shares == pytest.approx([0, 2 / 3, 1 / 3, 1])
    shares, _ = chooser("random", by_place=True).shares(text, numbers)
    assert shares == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])
    shares, _ = chooser("random", longest=2).shares(text, numbers)
    assert shares == pytest.approx([0, 1, 0, 1])
    assert chooser("first").shares(text, numbers)[0].tolist() == [1, 0, 0, 1]
    shares, _ = chooser(candidates=9).shares(text, numbers)
    assert shares[3] == 1
    assert sorted(shares[:3].tolist()) == [0, 0.5, 0.5]


@given(st.integers(0, 60), st.booleans(), st.sampled_from([0.3, 1.0]), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_sequences_are_the_stream_of_their_epoch_without_its_room(step, slot, share, most):
    choose = chooser(candidates=most, share=share, by_place=slot)
    reader = batches(choose, slot)
    tokens, labels, mask, starts, _ = reader.read(step, choose)
    assert tokens.shape == labels.shape == mask.shape == starts.shape == (4, LENGTH)
    indices = reader.sampler.indices(step, 0, 1)
    epochs = reader.sampler.epochs(step, 0, 1)
    for row, (index, epoch) in enumerate(zip(indices, epochs, strict=True)):
        chosen = choose(TEXT, NUMBERS, np.full(len(NUMBERS), epoch))
        stream = lay_out(TEXT, NUMBERS, chosen, reader.transform, END).tokens
        piece = stream[index * LENGTH : (index + 1) * LENGTH + 1]
        piece = piece[piece != ROOM].tolist()
        whole = [int(tokens[row, 0]), *labels[row].tolist()]
        assert whole == piece + [PAD] * (LENGTH + 1 - len(piece))
        assert tokens[row, 1:].tolist() == labels[row, :-1].tolist()
        assert mask[row].tolist() == [1.0] * (len(piece) - 1) + [0.0] * (LENGTH + 1 - len(piece))
    if share == 1.0:
        assert mask.all()
    shared = [batches(choose, slot, rank, 2).read(step, choose) for rank in range(2)]
    assert np.concatenate([rows.tokens for rows in shared]).tolist() == tokens.tolist()
    assert batches(choose, slot).read(step, choose).tokens.tolist() == tokens.tolist()  # resumed


def test_each_pass_over_the_text_draws_anew():
    choose = chooser(candidates=3)
    reader = batches(choose, False)
    steps = reader.sampler.examples // 4
    of_pass = []
    for first in (0, 5 * reader.sampler.examples // 4):
        rows = {}
        for step in range(first, first + steps):
            read = reader.read(step, choose)
            rows |= {
                (int(i), int(e)): row.tolist()
                for i, e, row in zip(
                    reader.sampler.indices(step, 0, 1),
                    reader.sampler.epochs(step, 0, 1),
                    read.tokens,
                    strict=True,
                )
            }
        of_pass.append(rows)
    known = {index: row for (index, epoch), row in of_pass[0].items() if epoch == 0}
    again = [(known[i], row) for (i, epoch), row in of_pass[1].items() if epoch == 5 and i in known]
    assert len(again) > 20
    assert sum(one != other for one, other in again) > 0.9 * len(again)


def test_samplers_know_how_often_an_example_was_drawn():
    sampler = Sampler(10, 4, 0)
    assert sampler.epochs(0, 0, 1).tolist() == [0] * 4
    assert sampler.epochs(2, 0, 1).tolist() == [0, 0, 1, 1]
    assert sampler.epochs(2, 1, 2).tolist() == [1, 1]
    passed = PassingSampler(sampler, Passed((Stretch(1, 1),)))
    assert passed.epochs(1, 0, 1).tolist() == sampler.epochs(2, 0, 1).tolist()
    sources = [Source("a", "f", 1.0, 0, 5), Source("b", "g", 3.0, 5, 7)]
    blend, seen = BlendSampler(sources, 8, 0), {}
    for step in range(12):
        drawn = zip(blend.indices(step, 0, 1), blend.epochs(step, 0, 1), strict=True)
        for index, epoch in drawn:
            assert seen.get(int(index), 0) == epoch
            seen[int(index)] = int(epoch) + 1
        parts = [blend.epochs(step, rank, 2) for rank in range(2)]
        assert np.concatenate(parts).tolist() == blend.epochs(step, 0, 1).tolist()
    assert max(seen.values()) > 5


@pytest.mark.parametrize(
    "data,selection,message",
    [
        ("arithmetic", {"plan_slot": True}, "plan_slot True is of no use to selection.strategy "
         "max_mi of data.task arithmetic"),
        ("text", {"strategy": "ntp", "plan_share": 0.5}, "plan_share 0.5 is of no use to "
         "selection.strategy ntp"),
        ("text", {"strategy": "first", "plan_candidates": 4}, "which has no scores"),
        ("text", {"plan_temperature": 2.0}, "set selection.plan_candidates above 1"),
        ("text", {"plan_chain": True}, "set selection.plan_candidates above 1"),
        ("text", {"strategy": "blank", "plan_slot": True}, "no token that could leave its place"),
        ("text", {"plan_share": 0.0}, "greater than 0"),
        ("text", {"plan_candidates": 0}, "greater than"),
    ],
)  # fmt: skip
def test_plans_that_cannot_be_are_refused(data, selection, message):
    section = {"task": data} | ({"path": "x.txt"} if data == "text" else {})
    with pytest.raises(ConfigError, match=message):
        load_config(None, {"data": section, "selection": selection})


def test_a_reader_that_draws_nothing_asks_no_epoch():
    reader = batches(chooser("first"), False)
    reader.sampler = SimpleNamespace(indices=reader.sampler.indices)
    assert reader.read(0, chooser("first")).mask.all()
