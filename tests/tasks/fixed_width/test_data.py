import numpy as np
import pytest

from pretrain.errors import ConfigError
from pretrain.tasks.arithmetic.config import ArithmeticData
from pretrain.tasks.arithmetic.data import Arithmetic
from pretrain.tasks.fixed_width.data import assemble, check_length


def test_assemble_masks_the_target_only():
    tokens, labels, mask = assemble(np.array([[1, 2, 3]]), np.array([[7, 8]]), 6, pad_id=9)
    assert tokens.tolist() == [[1, 2, 3, 7, 8, 9]]
    assert labels.tolist() == [[2, 3, 7, 8, 9, 9]]
    assert mask.tolist() == [[0, 0, 1, 1, 0, 0]]


def test_assemble_fits_exactly():
    tokens, labels, mask = assemble(np.array([[1, 2, 3]]), np.array([[7, 8]]), 4, pad_id=9)
    assert tokens.tolist() == [[1, 2, 3, 7]]
    assert labels.tolist() == [[2, 3, 7, 8]]
    assert mask.sum() == 2


def test_a_sequence_that_is_too_short_is_refused():
    task = Arithmetic(ArithmeticData())
    check_length(task, 9)
    with pytest.raises(ConfigError, match=r"model.sequence_length 8 .* 9"):
        check_length(task, 8)
