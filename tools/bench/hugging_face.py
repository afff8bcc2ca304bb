"""The Hugging Face side of the benchmarks: transformers' GPT-2 or Llama under its `Trainer`.

Same shape, arithmetic and optimizer as the preset. The Trainer is asked for no logging, evaluation
or saving, and finds its batches ready made. Its step begins and ends in `on_step_end`.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pretrain.config import Config
from pretrain.config.block_style import LLAMA
from pretrain.distributed.topology import pick_device, share_threads
from tools.bench.interleaved import Orders
from tools.bench.subject import ALONE, TOKENIZER, batch_of

FOREVER = 10**9


def model_of(config: Config) -> Any:
    """transformers' model of the preset."""
    import transformers

    model = config.model
    common: dict[str, Any] = {
        "vocab_size": config.vocabulary_size(TOKENIZER),
        "tie_word_embeddings": model.tied,
        "attn_implementation": "sdpa",
        "use_cache": False,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    if model.style == LLAMA:
        return transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                hidden_size=model.hidden_size,
                intermediate_size=model.ffn_width,
                num_hidden_layers=model.layers,
                num_attention_heads=model.attention_heads,
                num_key_value_heads=model.query_groups,
                max_position_embeddings=model.sequence_length,
                rms_norm_eps=1e-5,
                rope_parameters={"rope_type": "default", "rope_theta": float(model.rope_base)},
                **common,
            )
        )
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_embd=model.hidden_size,
            n_layer=model.layers,
            n_head=model.attention_heads,
            n_inner=model.ffn_width,
            n_positions=model.sequence_length,
            activation_function="gelu",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **common,
        )
    )


class SameSequences(torch.utils.data.IterableDataset[dict[str, Tensor]]):
    """The sequences of one batch over and over, with labels as transformers takes them: unshifted,
    so that a sequence of s + 1 tokens would be needed for the label of the last one."""

    def __init__(self, tokens: Tensor) -> None:
        self.sequences = [{"input_ids": row, "labels": row} for row in tokens]

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            yield from self.sequences


def run_hugging_face(config: Config, orders: Orders) -> None:
    """The process of the side."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):  # a launcher's; this process is alone
        os.environ.pop(name, None)
    share_threads(config.run.threads)
    device = pick_device(config.run.device, ALONE)
    import transformers
    from transformers import Trainer, TrainingArguments

    transformers.utils.logging.set_verbosity_error()
    logging.getLogger("accelerate").setLevel(logging.ERROR)

    class Turns(transformers.TrainerCallback):
        """Says when steps end, and whether there is to be another one."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not orders.step_done():
                control.should_training_stop = True

    orders.model_follows(device)
    options, training = config.optimizer, config.training
    micro_batch = training.micro_batch or training.global_batch
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model_of(config),
            args=TrainingArguments(
                output_dir=folder,
                max_steps=FOREVER,
                per_device_train_batch_size=micro_batch,
                gradient_accumulation_steps=training.global_batch // micro_batch,
                optim="adamw_torch_fused",
                learning_rate=options.learning_rate,
                lr_scheduler_type="constant",
                adam_beta1=options.beta1,
                adam_beta2=options.beta2,
                weight_decay=options.weight_decay,
                max_grad_norm=options.clip_norm,
                bf16=training.precision == "bf16",
                use_cpu=device.type == "cpu",
                logging_strategy="no",
                logging_nan_inf_filter=False,
                eval_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=SameSequences(batch_of(config).tokens),
            callbacks=[Turns()],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
