import numpy as np
import pytest

from pretrain.tasks.arithmetic.config import ArithmeticData
from pretrain.tasks.arithmetic.data import Arithmetic


def texts(task: Arithmetic, side: str) -> list[tuple[str, str]]:
    examples = getattr(task, side)
    decode = task.tokenizer.decode
    return [(decode(s), decode(t)) for s, t in zip(examples.source, examples.target, strict=True)]


@pytest.mark.parametrize("operation", ["addition", "subtraction", "multiplication"])
@pytest.mark.parametrize("digits", [1, 2])
def test_answers_are_right_and_zero_padded(operation, digits):
    task = Arithmetic(ArithmeticData(operation=operation, digits=digits))
    sign = {"addition": "+", "subtraction": "-", "multiplication": "*"}[operation]
    everything = texts(task, "train") + texts(task, "test")
    assert len(everything) == 10 ** (2 * digits)
    for source, target in everything:
        a, b = source.removesuffix("=").split(sign)
        assert len(a) == len(b) == digits
        value = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign]
        if operation == "subtraction":
            assert target == f"{value:+0{digits + 1}d}"
        else:
            assert target == f"{value:0{len(task.unit_names)}d}"


def test_commuted_pairs_are_on_one_side():
    task = Arithmetic(ArithmeticData())
    train = {source for source, _ in texts(task, "train")}
    test = {source for source, _ in texts(task, "test")}
    assert not train & test
    assert {f"{s[3:5]}*{s[0:2]}=" for s in test} == test
    assert len(test) == pytest.approx(1000, abs=20)


def test_the_split_depends_on_its_own_seed_only():
    first, again = Arithmetic(ArithmeticData()), Arithmetic(ArithmeticData())
    other = Arithmetic(ArithmeticData(split_seed=1))
    assert np.array_equal(first.train.source, again.train.source)
    assert not np.array_equal(first.test.source[:50], other.test.source[:50])


def test_large_operands_are_sampled_without_repetition():
    task = Arithmetic(ArithmeticData(digits=6, examples=2000, operation="addition"))
    sources = [source for source, _ in texts(task, "train") + texts(task, "test")]
    assert len(set(sources)) == len(sources)
    assert 3900 <= len(sources) <= 4000  # both orders of each pair, equals once
    for source, target in texts(task, "test"):
        a, b = source.removesuffix("=").split("+")
        assert int(a) + int(b) == int(target)


def test_features_are_the_operands_digits():
    task = Arithmetic(ArithmeticData())
    for source, features in zip(task.train.source[:50], task.train.features[:50], strict=True):
        text = task.tokenizer.decode(source)
        assert task.tokenizer.decode(features) == text[:2] + text[3:5]


def test_unit_names():
    assert Arithmetic(ArithmeticData()).unit_names == ("thousands", "hundreds", "tens", "units")
    subtraction = ArithmeticData(operation="subtraction")
    assert Arithmetic(subtraction).unit_names == (
        "sign",
        "tens",
        "units",
    )


def test_a_part_of_the_held_out_differences_has_both_signs():
    task = Arithmetic(ArithmeticData(operation="subtraction", digits=3, examples=5000))
    some = task.test.spread(100)
    assert len(some) == 100
    signs = [task.tokenizer.decode(target)[0] for target in some.target]
    assert 30 < signs.count("+") < 70
