"""What every process of a gang has imported before it begins: imported once, then forked."""

import torch

from pretrain import backends

backends.load(torch.device("cpu"))

import pretrain.model.gpt  # noqa: E402
import pretrain.training.checkpoint.callback  # noqa: E402
import pretrain.training.checkpoint.resuming  # noqa: E402
import pretrain.training.decoding  # noqa: E402
import pretrain.training.job  # noqa: E402
import pretrain.training.loop  # noqa: E402, F401
