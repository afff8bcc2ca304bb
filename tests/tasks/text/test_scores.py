import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pretrain.ragged import Documents
from pretrain.selection.orders.transforms import Insert, Keep
from pretrain.tasks.text.bounds import Bounds
from pretrain.tasks.text.scores import (
    END,
    KINDS,
    MARK,
    OTHER,
    PLAN,
    PLANNED,
    SLOT,
    LikelihoodSums,
    Scored,
    bound_metrics,
    bytes_metrics,
    distinct,
    kinds_of,
    likelihood_metrics,
    repetition,
    sums_by_kind,
)

LABELS = st.lists(st.tuples(st.floats(0, 20), st.integers(-1, KINDS - 1)), max_size=40)


def test_kinds_of_known_text():
    moved = Documents.of([[99, 90, 7, 91, 5, 92, 7]])
    assert kinds_of(moved, Insert(90, 91, slot=92), 99).tolist() == [
        END, MARK, PLAN, MARK, OTHER, SLOT, PLANNED,
    ]  # fmt: skip
    planned = Documents.of([[99, 90, 7, 91, 5, 7, 7], [], [90, 5, 91, 5], [99]])
    assert kinds_of(planned, Insert(90, 91), 99).tolist() == [
        END, MARK, PLAN, MARK, OTHER, PLANNED, PLANNED, MARK, PLAN, MARK, PLANNED, END,
    ]  # fmt: skip
    assert kinds_of(Documents.of([[99, 5, 7]]), Keep(), 99).tolist() == [END, OTHER, OTHER]


def by_kind(labels) -> torch.Tensor:
    nats, kinds = (np.array([label[i] for label in labels]) for i in range(2))
    return sums_by_kind(torch.from_numpy(nats.astype(float)), torch.from_numpy(kinds.astype(int)))


def sums(labels) -> LikelihoodSums:
    return LikelihoodSums.of(by_kind(labels))


@given(LABELS, LABELS)
def test_sums_add_up_over_ranks(mine, others):
    together, apart = sums(mine + others), LikelihoodSums.of(by_kind(mine) + by_kind(others))
    assert together.counts.tolist() == apart.counts.tolist()
    assert together.nats == pytest.approx(apart.nats)
    assert together.counts.sum() == sum(kind >= 0 for _, kind in mine + others)


def values(metrics):
    return {metric.name: metric.value for metric in metrics}


def test_metrics_of_known_sums():
    bit = math.log(2)
    planned = sums(
        [(3 * bit, PLAN), (bit, MARK), (0.0, MARK), (0.0, PLANNED), (4 * bit, OTHER), (bit, END)]
    )
    plain = sums([(3 * bit, OTHER), (3 * bit, OTHER), (bit, END)])
    assert values(likelihood_metrics(planned, plain)) == pytest.approx(
        {
            "joint_bits_per_token": 9 / 2,
            "conditional_perplexity": 2**2,
            "conditional_perplexity_without_plan": 2**4,
            "plain_perplexity": 2**3,
            "plan_bits": 3,
            "mark_bits": 0.5,
        }
    )
    # What inserted tokens cost or give away is no way to compare strategies.
    comparable = {each.name for each in likelihood_metrics(planned, plain) if each.comparable}
    assert comparable == {"joint_bits_per_token", "plain_perplexity"}


@given(LABELS.filter(lambda labels: any(kind == OTHER for _, kind in labels)))
def test_without_insertion_the_conditional_is_the_plain_and_the_joint_adds_the_ends(labels):
    text = sums([(nats, OTHER if kind < END else kind) for nats, kind in labels])
    metrics = values(likelihood_metrics(text, text))
    assert metrics["conditional_perplexity"] == metrics["plain_perplexity"]
    assert metrics["conditional_perplexity_without_plan"] == metrics["plain_perplexity"]
    ends = text.nats[END] / text.original_tokens / math.log(2)
    assert metrics["joint_bits_per_token"] == pytest.approx(
        math.log2(metrics["plain_perplexity"]) + ends
    )
    assert "plan_bits" not in metrics


def test_a_model_without_numbers_has_no_score():
    """Each metric is there, so that a run's evaluations have the same, and none has a value."""
    good, bad = (sums([(nats, kind) for kind in range(KINDS)]) for nats in (1.0, math.nan))
    metrics = likelihood_metrics(bad, bad)
    assert [metric.name for metric in metrics] == [m.name for m in likelihood_metrics(good, good)]
    assert all(math.isnan(metric.value) for metric in metrics)
    assert math.isnan(bytes_metrics(bad, [3])[0].value)


def test_bounds_of_known_nats():
    bit = math.log(2)
    planned = LikelihoodSums.drawn(
        [sums([(bits * bit, PLAN), (4 * bit, SLOT), (2 * bit, OTHER)]) for bits in (3, 5)]
    )
    plain, unmarked = (sums([(n * bit, OTHER), (bit, OTHER)]) for n in (6, 4))
    assert planned.bits == pytest.approx(10)
    assert planned.original_tokens == plain.original_tokens == 2  # a slot stands for a token
    found = values(likelihood_metrics(planned, plain))
    assert found["joint_bits_per_token"] == pytest.approx(5)
    assert found["slot_bits"] == pytest.approx(4)
    assert found["plan_bits"] == pytest.approx(4)
    assert values(bytes_metrics(planned, [4, 1])) == pytest.approx({"bits_per_byte": 2})
    bounds = Bounds(9 * bit, {1: 9 * bit, 4: 8 * bit}, 7 * bit, None)
    scored = Scored.total([Scored(planned, plain, bounds, unmarked)] * 2)
    expected = {"elbo": 9, "iw_1": 9, "iw_4": 8, "chain": 7, "plain": 7, "unmarked": 5}
    per_token = {f"{name}_bits_per_token": bits / 2 for name, bits in expected.items()}
    assert values(bound_metrics(scored, [4, None])) == pytest.approx(per_token)
    per_byte = {f"{name}_bits_per_byte": 2 * bits / 5 for name, bits in expected.items()}
    assert values(bound_metrics(scored, [4, 1])) == pytest.approx(per_token | per_byte)
    assert bound_metrics(Scored(plain, plain), [4]) == ()


def test_variety_of_known_texts():
    texts = [[1, 2, 1, 2, 1, 2], [1, 2], []]
    assert distinct(texts, 1) == 2 / 8
    assert distinct(texts, 2) == 2 / 6
    assert repetition(texts, 2) == 3 / 6
    assert repetition([[1, 2, 3]], 4) == distinct([[1]], 2) == 0.0


@given(st.lists(st.lists(st.integers(0, 5), max_size=12), max_size=4), st.integers(1, 4))
def test_variety_is_a_share(texts, n):
    assert 0.0 <= distinct(texts, n) <= 1.0
    assert 0.0 <= repetition(texts, n) < 1.0
