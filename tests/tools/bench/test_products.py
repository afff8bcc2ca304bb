import json

import pytest
import torch

from tools.bench.products import main, shapes, works


def test_both_sides_compute_the_same_products():
    torch.manual_seed(0)
    for sides in works(1280, 128, 96).values():
        torch.testing.assert_close(sides["torch"](), sides["ours"](), rtol=1e-4, atol=1e-4)


def test_it_reports_ratios_of_three_products(capsys):
    before = torch.get_num_threads()
    try:
        assert main(["--json", "--rounds", "2", "--shapes", "64x8x8"]) == 0
    finally:
        torch.set_num_threads(before)
    (found,) = json.loads(capsys.readouterr().out)["products"]
    assert found["shape"] == [64, 8, 8]
    for name in ("forward", "input gradient", "weight gradient"):
        least, largest = found[name]["ratio, rounds"]
        assert 0 < least <= found[name]["ratio"] <= largest


@pytest.mark.parametrize("text", ["1280x128", "0x1x1", "axbxc"])
def test_a_shape_is_three_numbers(text):
    with pytest.raises(ValueError):  # noqa: PT011
        shapes(text)
