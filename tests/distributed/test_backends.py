import subprocess
import sys


def test_a_step_loads_no_compiler_and_nothing_else_that_it_does_not_use():
    program = """
import gc, sys, torch
from pretrain.distributed import backends
backends.load(torch.device("cpu"))
assert "megatron.core.models.gpt" in sys.modules
assert "deepspeed.runtime.zero.muon.muon_optimizer" in sys.modules
assert gc.isenabled() and gc.get_freeze_count() > 0
from pretrain.config import load_config
from pretrain.optimizers.base import optimizer_of
for name in ("adamw", "lion"):
    module = torch.nn.Linear(2, 2)
    built = optimizer_of(load_config(None, {"optimizer": {"name": name}})).build(module)
    module(torch.ones(1, 2)).sum().backward()
    built.step()
    built.zero_grad()
    assert module.weight.grad is None
for name in ("torch._dynamo", "torch._inductor", "torch.distributed.tensor", "sympy",
             "torch.distributed.checkpoint", "megatron.core.safe_globals", "mlflow", "wandb"):
    if name in sys.modules:
        print(name)
"""
    environment = {"DS_ACCELERATOR": "cpu", "PATH": "/usr/bin:/bin"}

    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )

    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == ""
