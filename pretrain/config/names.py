"""What to say of a name that the configuration does not have: what it is called here, where it is
the name of Megatron-LM, DeepSpeed or Hugging Face's Trainer, or which name is near."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

NEAR = 0.7
"""Likeness from which on a name counts as misspelt, of section and field each; 1 is equal."""

_SAME: dict[str, str] = {
    # The model.
    "model.layers": "num_layers n_layer n_layers num_hidden_layers",
    "model.hidden_size": "n_embd d_model dim embed_dim",
    "model.attention_heads": "num_attention_heads n_head n_heads num_heads",
    "model.kv_heads": "num_query_groups num_key_value_heads n_kv_heads group_query_attention",
    "model.ffn_size": "ffn_hidden_size intermediate_size n_inner ffn_dim",
    "model.sequence_length": "seq_length seq_len max_seq_length max_seq_len block_size n_ctx "
    "n_positions context_length max_position_embeddings model_max_length encoder_seq_length",
    "model.vocabulary_size": "vocab_size padded_vocab_size make_vocab_size_divisible_by",
    "model.tie_embeddings": "untie_embeddings_and_output_weights tie_word_embeddings",
    "model.dropout": "hidden_dropout attention_dropout resid_pdrop attn_pdrop embd_pdrop "
    "hidden_dropout_prob",
    "model.init_std": "init_method_std initializer_range",
    "model.rope_base": "rotary_base rope_theta",
    "model.preset": "swiglu normalization position_embedding_type use_rotary_position_embeddings "
    "disable_bias_linear model_name_or_path",
    # The layout.
    "parallel.tensor": "tensor_model_parallel_size tensor_parallel_size tp_size tp "
    "model_parallel_size tensor_parallel",
    "parallel.pipeline": "pipeline_model_parallel_size pipeline_parallel_size pp_size pp "
    "pipeline_parallel",
    "parallel.virtual_pipeline": "num_layers_per_virtual_pipeline_stage "
    "virtual_pipeline_model_parallel_size num_virtual_stages_per_pipeline_rank",
    "parallel.context": "context_parallel_size cp_size cp",
    "parallel.zero_stage": "zero_optimization zero_optimization.stage use_distributed_optimizer "
    "data_parallel_sharding_strategy deepspeed deepspeed_config fsdp use_torch_fsdp2",
    "parallel.offload": "offload_optimizer offload_param cpu_offload optimizer_cpu_offload",
    # The training.
    "training.steps": "train_iters max_steps max_iters num_steps total_steps train_steps",
    "training.steps, of training.global_batch sequences each": "train_samples num_train_epochs "
    "num_epochs epochs max_epochs",
    "training.global_batch": "global_batch_size train_batch_size batch_size",
    "training.micro_batch": "micro_batch_size train_micro_batch_size_per_gpu "
    "per_device_train_batch_size per_gpu_train_batch_size auto_find_batch_size",
    "training.micro_batch, from which it follows": "gradient_accumulation_steps num_microbatches",
    "training.precision": "fp16 bf16 fp16.enabled bf16.enabled bfloat16 mixed_precision dtype "
    "torch_dtype params_dtype amp",
    "training.recompute": "recompute_granularity recompute_method recompute_activations "
    "recompute_num_layers gradient_checkpointing activation_checkpointing checkpoint_activations",
    "training.compile": "torch_compile",
    "training.seed": "data_seed",
    "training.max_minutes": "exit_duration_in_mins",
    "training.evaluate_every": "eval_interval eval_steps eval_strategy evaluation_strategy",
    "training.evaluation_examples": "eval_iters max_eval_samples",
    "training.evaluation_batch": "per_device_eval_batch_size eval_batch_size eval_micro_batch_size",
    # The optimizer.
    "optimizer.name": "optim optimizer.type optimizer_type",
    "optimizer.learning_rate": "lr max_lr peak_lr optimizer.params base_lr",
    "optimizer.schedule": "lr_decay_style lr_scheduler_type scheduler lr_scheduler "
    "scheduler.type lr_wsd_decay_style",
    "optimizer.warmup_steps": "lr_warmup_iters lr_warmup_samples lr_warmup_fraction warmup_ratio "
    "num_warmup_steps warmup_num_steps warmup_iters",
    "optimizer.decay_steps": "lr_wsd_decay_iters num_decay_steps",
    "optimizer.minimum_fraction, of the highest": "min_lr lr_end min_lr_ratio "
    "min_lr_rate cos_min_ratio",
    "optimizer.beta1, optimizer.beta2": "betas",
    "optimizer.beta1": "adam_beta1",
    "optimizer.beta2": "adam_beta2",
    "optimizer.epsilon": "adam_eps adam_epsilon eps",
    "optimizer.weight_decay": "wd start_weight_decay end_weight_decay",
    "optimizer.clip_norm": "clip_grad max_grad_norm gradient_clipping grad_clip gradient_clip_val",
    # Data.
    "data.path, or data.blend": "data_path train_data_path "
    "train_file dataset dataset_name dataset_path data_files train_data data_prefix",
    "data.test_path": "valid_data_path test_data_path validation_file test_file",
    "data.tokenizer": "tokenizer_model tokenizer_name tokenizer_name_or_path tokenizer_path "
    "tokenizer_type vocab_file merge_file",
    "data.document_mask": "reset_attention_mask reset_position_ids eod_mask_loss",
    # Checkpoints and records.
    "checkpoint.save_every": "save_interval save_steps checkpoint_interval save_strategy",
    "checkpoint.keep_last": "save_total_limit",
    "checkpoint.asynchronous": "async_save",
    "checkpoint.resume": "load resume_from_checkpoint resume_from ckpt_path load_checkpoint",
    "run.directory": "save output_dir out_dir checkpoint_dir save_dir logging_dir "
    "tensorboard_dir default_root_dir",
    "run.overwrite": "overwrite_output_dir",
    "run.log_every": "log_interval logging_steps steps_per_print",
    "run.tensorboard": "report_to log_to_tensorboard",
    "run.progress": "disable_tqdm",
    "run.device": "use_cpu no_cuda accelerator",
    "run.timeout_seconds": "distributed_timeout_minutes ddp_timeout",
    "profile.steps": "profile_step_start profile_step_end use_pytorch_profiler "
    "wall_clock_breakdown",
}
"""Field here: its names there, with _ for -. A name with a dot counts in that place only."""

ELSEWHERE = {name: field for field, names in _SAME.items() for name in names.split()}
"""Name there: field here."""


def hint(name: str, known: Sequence[str], everywhere: Sequence[str] = ()) -> str:
    """The end of a message about an unknown name.

    Args:
        name: as it was given.
        known: names that could stand in its place.
        everywhere: fields of all sections, dotted.
    """
    asked = _plain(name)
    last = asked.rpartition(".")[2]
    if field := ELSEWHERE.get(asked) or ELSEWHERE.get(last):
        return f"; here it is {field}"
    likeness = {other: _likeness(asked, _plain(other)) for other in known}
    nearest = max(known, key=likeness.__getitem__, default="")
    if likeness.get(nearest, 0.0) >= NEAR:
        return f"; did you mean {nearest}?"
    if same := [other for other in everywhere if other.rpartition(".")[2] == last]:
        return f"; did you mean {' or '.join(same)}?"
    place = name.rpartition(".")[0]
    beside = [other for other in known if other.rpartition(".")[0] == place]
    return f"; known: {', '.join(beside)}" if beside else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _likeness(one: str, other: str) -> float:
    """Of two dotted names, that of their sections or of their fields, whichever is less alike."""
    halves = zip(one.rpartition("."), other.rpartition("."), strict=True)
    return min(SequenceMatcher(None, *half).ratio() for half in halves)
