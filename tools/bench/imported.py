"""What a forked rank (tools.bench.forks) has imported before it begins: DeepSpeed, Megatron-Core,
and all that trains."""

import torch

from pretrain import backends

backends.load(torch.device("cpu"))

import pretrain.model.gpt  # noqa: E402
import pretrain.training.checkpoint.callback  # noqa: E402
import pretrain.training.checkpoint.resuming  # noqa: E402
import pretrain.training.decoding  # noqa: E402
import pretrain.training.job  # noqa: E402
import pretrain.training.loop  # noqa: E402, F401
