import numpy as np
import pytest

from pretrain.data.batches import Sampler
from pretrain.data.text import PlannedText
from pretrain.selection.counts import count_pairs, window
from pretrain.selection.documents import Documents, Examples, stream_of
from pretrain.selection.pointwise import Pointwise, Scorer
from pretrain.selection.transforms import Insert

RNG = np.random.default_rng(0)
SENTENCES = Documents.of([RNG.integers(0, 30, n) for n in RNG.integers(0, 12, 200)])
INSERT = Insert(30, 31)
LENGTH = 16


def scorer() -> Scorer:
    counts = count_pairs(stream_of(Examples(SENTENCES), 100), 32, 32, window(12))
    return Scorer(counts, Pointwise(minimum_count=1))


def source(rank: int = 0, ranks: int = 1, batch: int = 4) -> PlannedText:
    sequences = PlannedText.sequences(SENTENCES, INSERT, LENGTH)
    sampler = Sampler(sequences, batch, 1)
    return PlannedText(SENTENCES, scorer(), INSERT, sampler, rank, ranks, LENGTH)


def whole_text() -> np.ndarray:
    """All sentences with their tokens, scored one by one."""
    score, parts = scorer(), []
    for d in range(len(SENTENCES)):
        sentence = SENTENCES.between(d, d + 1)
        bits = score(sentence)
        if len(bits):
            best = max(k for k in range(len(bits)) if bits[k] >= bits.max() - 0.005)
            parts.append([30, sentence.tokens[best], 31, *sentence.tokens])
    return np.concatenate(parts)


def test_sequences_are_the_planned_text_cut_into_pieces():
    text = whole_text()
    reader = source()
    seen = set()
    for step in range(reader.sampler.examples // 4):
        tokens, labels, mask = reader.read(step, None)
        assert tokens.shape == labels.shape == mask.shape == (4, LENGTH)
        assert mask.all()
        for row, index in enumerate(reader.sampler.indices(step, 0, 1)):
            begin = index * LENGTH
            assert tokens[row].tolist() == text[begin : begin + LENGTH].tolist()
            assert labels[row].tolist() == text[begin + 1 : begin + LENGTH + 1].tolist()
            seen.add(index)
    assert len(seen) == reader.sampler.examples // 4 * 4


@pytest.mark.parametrize("step", [0, 3])
def test_readers_share_a_step(step):
    whole = source().read(step, None)
    parts = [source(rank, 2).read(step, None) for rank in range(2)]
    for of_whole, *of_parts in zip(whole, *parts, strict=True):
        assert np.concatenate(of_parts).tolist() == of_whole.tolist()


def test_a_text_too_short_for_one_sequence_has_none():
    assert PlannedText.sequences(Documents.of([[1, 2]]), INSERT, 16) == 0
    assert PlannedText.sequences(Documents.of([]), INSERT, 16) == 0
