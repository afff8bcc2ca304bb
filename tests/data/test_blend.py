"""Shares of a blend, and which sequences a step sees."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.data.blend import Blend, BlendSampler, Source
from pretrain.errors import UserError

WEB, BOOKS, CODE = (
    Source("c/web", "f-web", 0.7, 0, 400),
    Source("c/books", "f-books", 0.2, 500, 30),
    Source("c/code", "f-code", 0.1, 600, 7),
)
BATCH = 8


def sampler(sources=(WEB, BOOKS, CODE), seed=1, saved=None, step=0) -> BlendSampler:
    return BlendSampler(sources, BATCH, seed, saved, step)


def seen(draws: BlendSampler, steps: range, ranks: int = 1) -> list[list[int]]:
    return [
        np.concatenate([draws.indices(step, rank, ranks) for rank in range(ranks)]).tolist()
        for step in steps
    ]


def saved_at(draws: BlendSampler, step: int) -> dict:
    return json.loads(json.dumps(draws.state(step)))["blend"]


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12), st.integers(0, 10**12))
def test_shares_are_never_further_off_than_stated(weights, begin):
    blend = Blend(weights)
    numbers = begin + np.arange(300)
    counts = blend.counts(numbers)
    assert (counts.sum(axis=0) == numbers).all()
    assert np.isin(np.diff(counts, axis=1), (0, 1)).all()
    # What SCALE rounds off is another matter, hence the small numbers.
    small = np.arange(3000)
    due = np.outer(np.array(weights) / sum(weights), small)
    others = len(weights) - 1
    bound = (1 + sum(1 / k for k in range(1, others + 1))) / 2
    assert np.abs(blend.counts(small) - due).max() <= bound + 1e-3
    source, before = blend.at(numbers)
    assert (counts[source, np.arange(300)] == before).all()
    assert (blend.counts(numbers + 1)[source, np.arange(300)] == before + 1).all()


def test_a_blend_of_three_sources_for_1000_steps_has_the_shares_of_its_weights():
    drawn = np.concatenate(seen(sampler(), range(1000)))
    found = np.histogram(drawn, bins=[0, 500, 600, 700])[0] / (1000 * BATCH)
    assert found == pytest.approx([0.7, 0.2, 0.1], abs=0.005)
    assert found == pytest.approx([0.7, 0.2, 0.1], abs=1.0 / (1000 * BATCH))


def test_a_source_gives_each_sequence_once_an_epoch():
    drawn = np.concatenate(seen(sampler(), range(200)))
    for source in (WEB, BOOKS, CODE):
        own = drawn[(drawn >= source.first) & (drawn < source.first + source.sequences)]
        epochs = np.split(own, np.arange(source.sequences, len(own), source.sequences))
        assert len(epochs) > 2
        for epoch in epochs[:-1]:
            expected = np.arange(source.first, source.first + source.sequences)
            assert sorted(epoch) == expected.tolist()
        assert epochs[0].tolist() != epochs[1].tolist()


def test_the_stream_is_that_of_any_number_of_ranks_and_of_any_beginning():
    whole = seen(sampler(), range(40))
    for ranks in (2, 4, 8):
        assert seen(sampler(), range(40), ranks) == whole
        resumed = sampler(saved=saved_at(sampler(), 13), step=13)
        assert seen(resumed, range(13, 40), ranks) == whole[13:]
    assert seen(sampler(seed=2), range(40)) != whole


def test_a_changed_blend_goes_on_where_each_source_stood():
    before = sampler()
    state = saved_at(before, 20)
    plain = Source("c/new", "f-new", 1.0, 700, 50)
    changed = sampler((replace(WEB, weight=0.5), CODE, plain), saved=state, step=20)
    assert "was c/web:0.7, c/books:0.2, c/code:0.1 and is c/web:0.5, c/code:0.1" in changed.notice
    web = [x for row in seen(before, range(20)) for x in row if x < 400]
    later = [x for row in seen(changed, range(20, 100)) for x in row if x < 400]
    alone = seen(sampler((WEB,)), range(100))
    expected = [x for row in alone for x in row]
    assert web + later == expected[: len(web + later)]
    # It is saved and gone on with, at the same blend and, with books back, at another.
    resumed = sampler(changed.sources, saved=saved_at(changed, 30), step=30)
    assert not resumed.notice
    assert seen(resumed, range(30, 50)) == seen(changed, range(30, 50))
    back = sampler((BOOKS,), saved=saved_at(resumed, 50), step=50)
    assert back.consumed(50).tolist() == before.consumed(20)[1:2].tolist()


def test_a_folder_that_was_moved_is_known_and_other_content_is_refused():
    state = saved_at(sampler(), 20)
    moved = replace(WEB, name="elsewhere/web")
    assert not sampler((moved, BOOKS, CODE), saved=state, step=20).notice
    other = replace(WEB, fingerprint="f-other")
    with pytest.raises(UserError, match="c/web: the corpus is not the one that the run was traine"):
        sampler((other, BOOKS, CODE), saved=state, step=20)
