"""Files of a cluster's defaults."""

import pytest

from launcher.settings import resolve
from pretrain.errors import ConfigError


def test_a_setting_that_is_there_twice_is_refused(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("nodes: 2\nnodes: 4\n")
    with pytest.raises(ConfigError, match="nodes is there twice, in lines 1 and 2"):
        resolve(file, {})
