"""Sets are compared with what remains of them: by hand, in every layout, and to the bit."""

import pytest
import torch

from pretrain.config import load_config
from pretrain.errors import ConfigError, UserError
from pretrain.objectives.base import Piece, objective_of
from pretrain.objectives.head import Targets
from pretrain.objectives.plain import CrossEntropy
from pretrain.objectives.soft_set import FIELD, SoftSet
from pretrain.testing.processes import call_on
from tests.distributed.layouts import Layout, make_config
from tests.objectives.test_second_head_layouts import train

END = 9


def sets(*rows: tuple[list[int], list[float]], length: int = 7) -> Targets:
    """A text of two tokens, the labels of a set and its end, in each sequence."""
    labels = torch.zeros(len(rows), length, dtype=torch.int64)
    mask, weight = torch.zeros(len(rows), length), torch.zeros(len(rows), length)
    for row, (ids, weights) in enumerate(rows):
        labels[row, 2 : 3 + len(ids)] = torch.tensor([*ids, END])
        mask[row, 2 : 3 + len(ids)] = 1.0
        weight[row, 2 : 2 + len(ids)] = torch.tensor(weights)
    return Targets(labels, mask, {FIELD: weight})


def dense(objective: SoftSet, targets: Targets) -> torch.Tensor:
    """[b, s, 10] the distribution over all tokens."""
    ids, shares = objective.distribution(targets)
    return torch.zeros(*ids.shape[:2], 10).scatter_add(2, ids, shares)


def test_what_remains_shares_by_its_weights_and_the_end_comes_last():
    found = dense(SoftSet(window=5), sets(([4, 7, 5], [1.0, 1.0, 2.0]), ([], []), ([3], [0.5])))
    expected = torch.zeros(3, 7, 10)
    expected[0, 2, [4, 7, 5]] = torch.tensor([0.25, 0.25, 0.5])
    expected[0, 3, [7, 5]] = torch.tensor([1 / 3, 2 / 3])
    expected[0, 4, 5] = expected[0, 5, END] = 1.0
    expected[1, 2, END] = 1.0
    expected[2, 2, 3] = expected[2, 3, END] = 1.0
    torch.testing.assert_close(found, expected)


def loss_of(targets: Targets, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Of the head of one process, without tensor-parallel groups."""
    head = SoftSet(window=5).head(None, False, weight)
    head.whole = lambda hidden_sbh: hidden_sbh.reshape(-1, hidden_sbh.size(-1))
    return head(hidden, weight, targets=targets)


def test_the_loss_and_its_gradients_are_those_of_the_dense_formula():
    torch.manual_seed(0)
    targets = sets(([4, 7, 5], [1.0, 1.0, 2.0]), ([], []), ([3], [0.5]), ([1, 2], [3.0, 1.0]))
    hidden = torch.randn(7, 4, 6, requires_grad=True)
    weight = torch.randn(10, 6, requires_grad=True)
    loss = loss_of(targets, hidden, weight)
    expected_q = dense(SoftSet(window=5), targets)
    logs = torch.log_softmax(torch.einsum("sbh,vh->bsv", hidden, weight), dim=2)
    expected = -(expected_q * logs).sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for found, wanted in zip(
        torch.autograd.grad(loss, (hidden, weight)),
        torch.autograd.grad(expected, (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_sets_of_one_label_are_plain_cross_entropy():
    torch.manual_seed(1)
    targets = sets(([3], [1.0]), ([8], [0.2]))
    hidden, weight = torch.randn(7, 2, 6), torch.randn(10, 6)
    logs = torch.log_softmax(torch.einsum("sbh,vh->bsv", hidden, weight), dim=2)
    nats = -logs.gather(2, targets.labels.unsqueeze(2)).squeeze(2)
    expected = float((nats * targets.mask).sum())
    assert float(loss_of(targets, hidden, weight)) == pytest.approx(expected, rel=1e-5)


def test_what_it_cannot_do_is_refused():
    def of(**section):
        return objective_of(load_config(None, {"objective": {"name": "soft_set", **section}}))

    with pytest.raises(ConfigError, match=r"targets of data\.task arithmetic are no sets"):
        of()
    with pytest.raises(ConfigError, match=r"objective\.weighting information: .* uniform or pmi"):
        SoftSet(weighting="information")
    with pytest.raises(ConfigError, match=r"objective\.coefficient 2\.0 is of no use"):
        SoftSet(coefficient=2.0)
    with pytest.raises(UserError, match=r"the field set_weight of a batch holds -1\.0"):
        SoftSet().count(torch.ones(1, 1), {FIELD: torch.tensor([[-1.0]])})
    assert (SoftSet().needs_table, SoftSet(weighting="pmi").needs_table) == (False, True)
    assert SoftSet().matrices(8, 4) == ()
    assert SoftSet().flops_per_token(8, 4) == 0


def config_of(layout: Layout):
    config = make_config(layout)
    objective = config.objective.model_copy(update={"name": "soft_set", "window": 5})
    return config.model_copy(update={"objective": objective})


def test_the_planner_counts_what_is_compared():
    piece = Piece(tokens=100, hidden=8, rows=64, width=4, device="cpu")
    plain, sets = CrossEntropy(), SoftSet(window=5)
    assert sets.kept_bytes(piece) == plain.kept_bytes(piece)
    assert sets.working_bytes(piece) == plain.working_bytes(piece) + 32 * 100 * 5


LAYOUTS = [
    Layout("TP2-SP", "PP2", embeddings="untied"),
    Layout(data=2, zero=2),
    *(
        pytest.param(layout, marks=pytest.mark.parity)
        for layout in (
            Layout("TP2"),
            Layout(pipeline="PP2"),
            Layout("TP2", "PP2"),
            Layout(pipeline="PP2-interleaved", embeddings="untied"),
            Layout("TP2-SP", embeddings="untied"),
            Layout(data=2, zero=1, embeddings="untied"),
            Layout("TP2", data=2, zero=3, embeddings="untied"),
        )
    ),
]


@pytest.fixture(scope="module")
def alone():
    """Traces of one process, made when they are asked for."""
    traces = {}

    def find(embeddings: str):
        if embeddings not in traces:
            traces[embeddings] = call_on(1, train, config_of(Layout(embeddings=embeddings)))[0]
        return traces[embeddings]

    return find


@pytest.mark.distributed
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_sets_train_alike_in_every_layout(layout, alone):
    expected = alone(layout.embeddings)
    assert expected[-1][0] < expected[0][0]
    for trace in call_on(layout.ranks, train, config_of(layout)):
        assert [step[0] for step in trace] == pytest.approx([x[0] for x in expected], rel=1e-5)
        assert [step[1] for step in trace] == pytest.approx([x[1] for x in expected], rel=1e-4)
