import subprocess
import sys

import torch

from pretrain.distributed import backends


def test_what_is_compiled_later_is_compiled_when_it_is_called(monkeypatch):
    compiled = []

    def compile_now(function, **options):
        compiled.append((function, options))
        return lambda x: -function(x)

    monkeypatch.setattr(torch, "compile", compile_now)
    with backends.compiling_later():

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


def test_loading_both_loads_no_compiler():
    program = """
import sys, torch
from pretrain.distributed import backends
backends.load(torch.device("cpu"))
assert "megatron.core.models.gpt" in sys.modules
assert "deepspeed.runtime.zero.muon.muon_optimizer" in sys.modules
print(*(name for name in ("torch._dynamo", "torch._inductor") if name in sys.modules))
"""
    environment = {"DS_ACCELERATOR": "cpu", "PATH": "/usr/bin:/bin"}

    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )

    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == ""
