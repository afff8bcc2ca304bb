import numpy as np
import pytest
import torch

from pretrain.data.batch import Batch, Sampler
from pretrain.data.tokenizers import SymbolTokenizer


def test_a_step_is_the_same_for_any_number_of_ranks():
    sampler = Sampler(examples=103, global_batch=24, seed=5)
    for step in (0, 3, 4, 17):
        whole = sampler.indices(step, 0, 1)
        for ranks in (2, 3, 4):
            parts = [sampler.indices(step, rank, ranks) for rank in range(ranks)]
            assert np.array_equal(np.concatenate(parts), whole)


def test_every_example_is_seen_once_per_epoch():
    sampler = Sampler(examples=60, global_batch=24, seed=1)
    seen = np.concatenate([sampler.indices(step, 0, 1) for step in range(5)])
    assert np.array_equal(np.sort(seen[:60]), np.arange(60))
    assert np.array_equal(np.sort(seen[60:120]), np.arange(60))
    assert not np.array_equal(seen[:60], seen[60:120])


def test_going_back_to_an_earlier_step_gives_the_same_examples():
    sampler = Sampler(examples=60, global_batch=24, seed=1)
    early = sampler.indices(1, 0, 2)
    sampler.indices(50, 0, 2)
    assert np.array_equal(sampler.indices(1, 0, 2), early)


def test_the_seed_counts():
    steps = [Sampler(1000, 100, seed).indices(0, 0, 1) for seed in (0, 1)]
    assert not np.array_equal(*steps)


def test_micro_batches_keep_the_count():
    batch = Batch(torch.arange(12).view(6, 2), torch.zeros(6, 2), torch.ones(6, 2), 99)
    parts = list(batch.micro_batches(2))
    assert [part.target_tokens for part in parts] == [99, 99, 99]
    assert torch.cat([part.tokens for part in parts]).equal(batch.tokens)


def test_fields_go_where_the_batch_goes():
    fields = {"weight": torch.rand(6, 2)}
    batch = Batch(torch.zeros(6, 2), torch.zeros(6, 2), torch.ones(6, 2), 99, fields=fields)
    parts = [part.fields["weight"] for part in batch.to(torch.device("cpu")).micro_batches(4)]
    assert [len(part) for part in parts] == [4, 2]
    assert torch.cat(parts).equal(fields["weight"])


def test_tokenizer_round_trip_and_unknown_characters():
    tokenizer = SymbolTokenizer("0123456789*=")
    assert tokenizer.decode(tokenizer.encode("35*07=0245")) == "35*07=0245"
    assert tokenizer.decode([tokenizer.pad_id, 1]) == "?1"
    with pytest.raises(ValueError, match="'x'"):
        tokenizer.encode("3x")
