"""Token order and weighted bags: formulas against slow references, and what must not count."""

import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.config import load_config
from pretrain.distributed import topology
from pretrain.errors import ConfigError, UserError
from pretrain.model.flops import model_cost
from pretrain.objectives import blocks as module
from pretrain.objectives.base import objective_of
from pretrain.objectives.head import Targets
from pretrain.objectives.mi_bag import WeightedBag
from pretrain.objectives.plain import CrossEntropy
from pretrain.objectives.top import TokenOrder
from pretrain.planning import make_plan
from pretrain.planning.layout import Layout as Planned
from pretrain.planning.parameters import held_by
from pretrain.testing.processes import call_on
from pretrain.training.checkpoint.compatibility import check_same_model

HIDDEN = 8
KINDS = ("top", "uniform", "information", "pmi")


def made(kind, window, coefficient):
    if kind == "top":
        return TokenOrder(coefficient, window)
    return WeightedBag(coefficient, window, kind)


def problem(seed, sequences, length, rows, window):
    """Targets with masked labels and documents that begin anywhere, hidden states, two heads."""
    generator = torch.Generator().manual_seed(seed)
    shape = sequences, length
    starts = torch.rand(shape, generator=generator) < 0.2
    starts[:, 0] = True
    places = torch.arange(length).expand(shape)
    positions = places - torch.where(starts, places, 0).cummax(dim=1).values
    bits = torch.rand((*shape, window), generator=generator) * 5
    bits *= torch.rand(bits.shape, generator=generator) < 0.6
    targets = Targets(
        torch.randint(0, rows, shape, generator=generator),
        (torch.rand(shape, generator=generator) < 0.7).float(),
        {"information": bits[..., 0].contiguous(), "pmi": bits},
        positions,
    )
    hidden = torch.randn(length, sequences, HIDDEN, generator=generator)
    heads = torch.randn(2, rows, HIDDEN, generator=generator)
    return targets, hidden, heads


def shares(kind, targets, row, place, window):
    """What the second head is compared with at a place: token -> share."""
    labels, mask, positions = targets.labels[row], targets.mask[row], targets.positions[row]
    weights = {}
    for step in range(window):
        there = place + step
        if there >= len(labels) or (step and positions[there] == 0):
            break
        token = int(labels[there])
        if not mask[there]:
            continue
        if kind == "top":
            weights.setdefault(token, math.exp(-(step + 1)))
        else:
            bits = targets.fields["information"][row, there]
            bits = targets.fields["pmi"][row, place, step] if kind == "pmi" else bits
            weight = 1.0 if kind == "uniform" else float(bits)
            weights[token] = weights.get(token, 0.0) + weight
    total = sum(weights.values())
    return {token: weight / total for token, weight in weights.items()} if total else {}


def reference(kind, targets, hidden, heads, window, coefficient):
    """Both sums, place by place in float64."""
    nats = ahead = 0.0 * (hidden.sum() + heads.sum()).double()
    for row, place in targets.mask.nonzero().tolist():
        log_p, log_q = (heads.double() @ hidden[place, row].double()).log_softmax(1)
        nats = nats - log_p[targets.labels[row, place]]
        for token, share in shares(kind, targets, row, place, window).items():
            ahead = ahead - share * log_q[token]
    return nats, coefficient * ahead


def run_head(objective, targets, hidden, heads, group=None):
    head = objective.head(group, False, heads[0])
    head.weight.data = heads[1].detach().clone()
    head.whole = lambda hidden_sbh: hidden_sbh.reshape(-1, hidden_sbh.size(-1))
    return head, head(hidden, heads[0], targets=targets)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    sequences=st.integers(1, 3),
    length=st.integers(1, 24),
    rows=st.sampled_from([1, 2, 5, 40]),
    window=st.sampled_from([1, 2, 3, 7, 30]),
    block=st.sampled_from([1, 1 << 20]),
)
def test_the_loss_is_its_formula(kind, seed, sequences, length, rows, window, block):
    targets, hidden, heads = problem(seed, sequences, length, rows, window)
    leaves = hidden.clone().requires_grad_(), heads.clone().requires_grad_()
    expected = reference(kind, targets, *leaves, window, 0.3)
    wanted = torch.autograd.grad(sum(expected), leaves)

    hidden.requires_grad_()
    first = heads[0].clone().requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module.BLOCK_ELEMENTS, "cpu", block)
        head, found = run_head(made(kind, window, 0.3), targets, hidden, (first, heads[1]))
    got = torch.autograd.grad(found.sum(), (hidden, first, head.weight))

    assert found.tolist() == pytest.approx([each.item() for each in expected], rel=1e-5, abs=1e-5)
    gradients = got[0], torch.stack(got[1:])
    for mine, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_distribution_is_one(kind):
    targets, *_ = problem(3, 4, 50, 9, 12)
    ids, found = made(kind, 12, None).distribution(targets)
    total = found.sum(2)
    some = targets.mask > 0
    if kind in ("top", "uniform"):
        torch.testing.assert_close(total[some], torch.ones(int(some.sum())))
    assert ((total - 1).abs() < 1e-5).logical_or(total == 0).all()
    assert not total[~some].any()
    for row, place in [(0, 0), (1, 20), (3, 41)]:
        given_ = [
            int(token)
            for token, share in zip(ids[row, place], found[row, place], strict=True)
            if share
        ]
        assert len(given_) == len(set(given_)), "a token is there twice"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_masked_or_of_another_document_is_not_a_target(kind):
    """Labels that must not count are changed, and nothing else may change by it."""
    window = 6
    targets, hidden, heads = problem(1, 2, 20, 30, window)
    begin = 9  # the second document of each sequence
    positions = torch.arange(20).expand(2, 20).clone()
    positions[:, begin:] -= begin
    mask = torch.ones(2, 20)
    mask[:, 5] = 0.0
    objective = made(kind, window, 1.0)

    def of_first_document(labels, positions):
        bits = {name: torch.ones_like(values) for name, values in targets.fields.items()}
        changed = Targets(labels, mask, bits, positions)
        places = hidden.clone().requires_grad_()
        _, loss = run_head(objective, changed, places, heads)
        (gradient,) = torch.autograd.grad(loss[1], places)
        return gradient[:begin]

    usual = of_first_document(targets.labels, positions)
    other = targets.labels.clone()
    other[:, begin:] = (other[:, begin:] + 1) % 30
    other[:, 5] = (other[:, 5] + 1) % 30
    assert usual.any()
    assert torch.equal(of_first_document(other, positions), usual)
    # Were documents not told apart, it would have shown.
    assert not torch.equal(of_first_document(other, None), of_first_document(targets.labels, None))
    visible = targets.labels.clone()
    visible[:, begin - 1] = (visible[:, begin - 1] + 1) % 30  # the last label, `<end>` in a text
    assert not torch.equal(of_first_document(visible, positions), usual)


def test_known_shares():
    labels = torch.tensor([[4, 7, 4, 9]])
    targets = Targets(labels, torch.ones(1, 4), {"information": torch.tensor([[1.0, 2, 1, 6]])})
    scale = math.exp(-1) + math.exp(-2) + math.exp(-4)
    _, order = TokenOrder(window=4).distribution(targets)
    assert order[0, 0].tolist() == pytest.approx(
        [math.exp(-1) / scale, math.exp(-2) / scale, 0.0, math.exp(-4) / scale]
    )
    _, bag = WeightedBag(window=4).distribution(targets)
    assert bag[0, 0].tolist() == [0.5, 0.25, 0.0, 0.25]
    _, weighted = WeightedBag(window=4, weighting="information").distribution(targets)
    assert weighted[0, 0].tolist() == pytest.approx([0.2, 0.2, 0.0, 0.6])


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_keeps_the_loss_in_fp32(kind):
    targets, hidden, heads = problem(7, 3, 40, 24, 6)
    hidden, heads = hidden.bfloat16().requires_grad_(), heads.bfloat16()
    first = heads[0].clone().requires_grad_()
    head, loss = run_head(made(kind, 6, 0.5), targets, hidden, (first, heads[1]))
    loss.sum().backward()
    assert loss.dtype == torch.float32
    for each in (hidden, first, head.weight):
        assert each.grad.dtype == torch.bfloat16
    expected = reference(kind, targets, hidden, heads, 6, 0.5)
    assert loss.tolist() == pytest.approx([each.item() for each in expected], rel=1e-2)


def split_heads(kind):
    with topology.start(load_config(None, {"parallel": {"tensor": 2}})) as here:
        targets, hidden, heads = problem(5, 2, 16, 24, 5)
        rank, group = here.tensor.rank, here.tensor.group
        part = heads[:, 12 * rank : 12 * rank + 12]
        hidden.requires_grad_()
        first = part[0].clone().requires_grad_()
        head, loss = run_head(made(kind, 5, 0.3), targets, hidden, (first, part[1]), group)
        loss.sum().backward()
        dist.all_reduce(hidden.grad, group=group)
        return loss.detach(), hidden.grad, torch.stack((first.grad, head.weight.grad))


@pytest.mark.distributed
@pytest.mark.parametrize("kind", ["top", "pmi"])
def test_a_vocabulary_on_two_ranks_gives_the_same(kind):
    targets, hidden, heads = problem(5, 2, 16, 24, 5)
    leaves = hidden.requires_grad_(), heads.requires_grad_()
    expected = reference(kind, targets, *leaves, 5, 0.3)
    grad_hidden, grad_heads = torch.autograd.grad(sum(expected), leaves)
    results = call_on(2, split_heads, kind)
    for loss, got, _ in results:
        assert loss.tolist() == pytest.approx([each.item() for each in expected], rel=1e-5)
        torch.testing.assert_close(got, grad_hidden, rtol=1e-4, atol=1e-5)
    parts = torch.cat([part for *_, part in results], dim=1)
    torch.testing.assert_close(parts, grad_heads, rtol=1e-4, atol=1e-5)


def test_settings_reach_the_objective_that_has_them():
    def of(**section):
        return objective_of(load_config(None, {"objective": section}))

    default = of(name="top")
    assert (default.coefficient, default.window, default.fields) == (1.0, 16, {})
    bag = of(name="mi_bag", window=4, coefficient=0.5, weighting="pmi")
    assert (bag.window, bag.coefficient, bag.per_token) == (4, 0.5, {"pmi": 4})
    assert of(name="mi_bag", weighting="information").per_token == {}
    for section, message in (
        ({"name": "top", "weighting": "pmi"}, "objective.weighting pmi is of no use"),
        ({"window": 4}, "objective.window 4 is of no use"),
        ({"name": "z_loss", "window": 4}, "leave it out"),
    ):
        with pytest.raises(ConfigError, match=message):
            of(**section)


def test_a_weight_below_nothing_is_refused():
    fields = {"information": torch.tensor([[1.0, -0.25]])}
    with pytest.raises(UserError, match=r"the field information of a batch holds -0\.25"):
        WeightedBag(weighting="information").count(torch.ones(1, 2), fields)


def test_imported_weights_have_none_for_it():
    config = load_config(None, {"objective": {"name": "top"}})
    before = config.model_dump(mode="json")
    with pytest.raises(ConfigError, match=r"objective\.name top has a head .* use cross_entropy"):
        check_same_model(before, config, Path("imported"))
    check_same_model(before, load_config(None), Path("imported"))


def test_a_second_head_is_priced():
    config = load_config(None, {"objective": {"name": "top"}, "parallel": {"tensor": 2}})
    plain = load_config(None, {"parallel": {"tensor": 2}})
    h, v = config.model.hidden_size, 64
    usual = model_cost(config.model, v, CrossEntropy())
    assert usual == model_cost(config.model, v)
    dear = model_cost(config.model, v, objective_of(config))
    assert dear.parameters == usual.parameters + h * v
    assert dear.flops_per_token == usual.flops_per_token + 3 * 2 * h * v
    ours, theirs = (held_by(Planned(each, 2, v), 0) for each in (config, plain))
    assert ours.count == theirs.count + h * v // 2
    assert ours.matrices == (*theirs.matrices, h * v // 2)
    peaks = [make_plan(each, 2, v).largest.peak for each in (config, plain)]
    assert peaks[0] > peaks[1]


def test_plain_cross_entropy_has_nothing_of_it():
    head = CrossEntropy().head(None, False, torch.zeros(4, 2))
    assert not list(head.parameters())
    assert CrossEntropy().matrices(8, 4) == ()
    assert CrossEntropy().terms == ()
