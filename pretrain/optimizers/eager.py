"""torch's optimizers without its compiler.

torch marks methods of optimizers for torch.compile, and the marks import `torch._dynamo` when the
methods are first called: half a second, and 60 MiB, in each run. No compiled code calls them here.
"""

from __future__ import annotations

from inspect import unwrap
from typing import Any

import torch


class EagerOptimizer(torch.optim.Optimizer):
    """The same methods, unmarked."""

    add_param_group: Any = unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad: Any = unwrap(torch.optim.Optimizer.zero_grad)


class EagerAdamW(EagerOptimizer, torch.optim.AdamW):
    """torch's AdamW, not differentiable itself."""

    step: Any = torch.no_grad()(unwrap(torch.optim.AdamW.step))
