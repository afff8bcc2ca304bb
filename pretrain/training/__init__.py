"""Training: the DeepSpeed engine around a Megatron schedule, the loop, evaluation, run records."""
