"""The Lightning side of the benchmarks: the plain GPT as a `LightningModule` under its `Trainer`.

Without logging, checkpoints, progress bar and validation; batches are ready made. A step begins and
ends in `on_train_batch_end`.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pretrain.config import Config
from pretrain.distributed.topology import pick_device, share_threads
from tools.bench.interleaved import Orders
from tools.bench.plain_gpt import PlainGPT, fused_adamw
from tools.bench.subject import ALONE, TOKENIZER, batch_of


class SameBatches(torch.utils.data.IterableDataset[tuple[Tensor, Tensor]]):
    """The micro-batches of one batch over and over."""

    def __init__(self, tokens: Tensor, labels: Tensor, micro_batch: int) -> None:
        self.parts = list(zip(tokens.split(micro_batch), labels.split(micro_batch), strict=True))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.parts


def run_lightning(config: Config, orders: Orders) -> None:
    """The process of the side."""
    share_threads(config.run.threads)
    device = pick_device(config.run.device, ALONE)
    import lightning
    import lightning.pytorch.utilities.rank_zero  # adds its handlers

    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)

    warnings.filterwarnings("ignore", module=r"lightning\.")

    class Module(lightning.LightningModule):
        """The plain GPT with its loss and optimizer."""

        def __init__(self) -> None:
            super().__init__()
            self.model = PlainGPT(config, config.vocabulary_size(TOKENIZER))

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            return self.model.loss(*batch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return fused_adamw(config, self)

    class Turns(lightning.Callback):
        """Says when steps end, and whether there is to be another one."""

        def __init__(self) -> None:
            self.steps = 0

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step > self.steps:
                self.steps = trainer.global_step
                trainer.should_stop = not orders.step_done()

    orders.model_follows(device)
    training = config.training
    batch = batch_of(config)
    micro_batch = training.micro_batch or training.global_batch
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            accelerator="cpu" if device.type == "cpu" else "gpu",
            devices=1,
            max_steps=-1,
            max_epochs=-1,
            precision="bf16-mixed" if training.precision == "bf16" else "32-true",
            accumulate_grad_batches=training.global_batch // micro_batch,
            gradient_clip_val=config.optimizer.clip_norm or None,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            barebones=False,
            default_root_dir=folder,
            callbacks=[Turns()],
        )
        data = SameBatches(batch.tokens, batch.labels, micro_batch)
        trainer.fit(Module(), torch.utils.data.DataLoader(data, batch_size=None))
