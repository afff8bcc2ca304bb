"""The models that are measured, and the micro-batches that are tried."""

import pytest

from pretrain.errors import ConfigError
from pretrain.model.flops import model_cost
from tools.gpu.sizes import ACCUMULATED, RESERVE, config_of, fitting, halvings, planned_peak

H100 = 79 * 2**30


@pytest.mark.parametrize("size,parameters", [("124M", 124e6), ("350M", 355e6), ("1.3B", 1.31e9)])
def test_sizes_have_the_parameters_that_they_are_named_after(size, parameters):
    config = config_of(size, 1024, "cuda", micro_batch=4)
    assert model_cost(config.model, 50304).parameters == pytest.approx(parameters, rel=0.02)
    assert (config.training.precision, config.training.global_batch) == ("bf16", 4 * ACCUMULATED)


def test_halves():
    assert list(halvings(6)) == [6, 3, 1]


def test_the_micro_batch_is_the_largest_power_of_two_that_the_planner_fits():
    found = fitting("1.3B", 4096, H100)
    limit = (1 - RESERVE) * H100
    assert planned_peak(config_of("1.3B", 4096, "cuda", micro_batch=found)) <= limit
    assert planned_peak(config_of("1.3B", 4096, "cuda", micro_batch=2 * found)) > limit
    assert fitting("124M", 4096, H100) == 8  # more would only take longer
    assert fitting("1.3B", 4096, H100, recompute="full") > fitting("1.3B", 4096, H100)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"1\.3B at sequence 1024 does not fit 8\.0 GiB"):
        fitting("1.3B", 1024, 8 * 2**30)
