import sys
from types import ModuleType

import pytest
import torch

from pretrain.distributed.lean import compiling_later, standing_in, without


def test_what_is_compiled_later_is_compiled_when_it_is_called(monkeypatch):
    compiled = []

    def compile_now(function, **options):
        compiled.append((function, options))
        return lambda x: -function(x)

    monkeypatch.setattr(torch, "compile", compile_now)
    with compiling_later():

        @torch.compile
        def double(x):
            return 2 * x

        @torch.compile(dynamic=True)
        def triple(x):
            return 3 * x

    assert compiled == []
    assert (double(1), double(2), triple(1)) == (-2, -4, -3)
    assert [options for _, options in compiled] == [{}, {"dynamic": True}]
    assert double.__name__ == "double"
    assert torch.compile is compile_now


def test_modules_are_missing_while_others_stand_in_for_them(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    monkeypatch.delitem(sys.modules, "this", raising=False)
    other = ModuleType("this")

    with standing_in(without(("colorsys", "json")) | {"this": other}):
        with pytest.raises(ImportError, match="colorsys"):
            import colorsys
        import json
        import this

    assert this is other
    assert json.loads("1") == 1  # it was there already
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 1) == (2 / 3, 1.0, 1)
    assert "this" not in sys.modules
