"""The plain PyTorch side of the benchmarks."""

from __future__ import annotations

from pretrain.config import Config
from pretrain.distributed import cpu
from pretrain.distributed.topology import pick_device, share_threads
from tools.bench.interleaved import Orders
from tools.bench.plain_gpt import PlainTrainer
from tools.bench.subject import ALONE, TOKENIZER, batch_of


def run_plain(
    config: Config,
    orders: Orders,
    kept_memory: bool = False,
    master_weights: bool = False,
    compiled: str = "",
) -> None:
    """A step of :class:`PlainTrainer`.

    Args:
        kept_memory: tell the C library to keep freed memory, as we do on a CPU.
        master_weights, compiled: as the trainer takes them.
    """
    share_threads(config.run.threads)
    if kept_memory:
        cpu.keep_freed_memory()
    device = pick_device(config.run.device, ALONE)
    orders.model_follows(device)
    batch = batch_of(config).to(device)
    vocabulary = config.vocabulary_size(TOKENIZER)
    plain = PlainTrainer(config, vocabulary, device, master_weights, compiled)
    orders.serve(lambda: plain.step(batch.tokens, batch.labels))
