import json
import math
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from pretrain.files import json_text, open_to_umask, written_whole


def fail_half_way(path):
    with written_whole(path) as beside:
        beside.write_text("half")
        raise ZeroDivisionError


def test_a_file_is_there_whole_or_as_it_was(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        fail_half_way(path)
    assert path.read_text() == "old"
    with written_whole(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_files_of_safetensors_have_the_rights_of_any_new_file(tmp_path, umask):
    path = tmp_path / "a.safetensors"
    before = os.umask(umask)
    try:
        save_file({"a": np.zeros(1)}, path)
        open_to_umask(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert list(tmp_path.iterdir()) == [path]


def test_figures_that_are_not_finite_are_null():
    text = json_text({"a": math.nan, "b": [1.5, -math.inf], "c": (np.float64("nan"), {"d": True})})
    found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert found == {"a": None, "b": [1.5, None], "c": [None, {"d": True}]}
