"""What a forked rank (pretrain.testing.forks) has imported before it begins: DeepSpeed,
Megatron-Core, and all that trains."""

import torch

from pretrain.distributed import backends

backends.load(torch.device("cpu"))

import pretrain.inference.decoding  # noqa: E402
import pretrain.model.gpt  # noqa: E402
import pretrain.training.checkpoint.callback  # noqa: E402
import pretrain.training.checkpoint.resume  # noqa: E402
import pretrain.training.job  # noqa: E402
import pretrain.training.loop  # noqa: E402, F401
