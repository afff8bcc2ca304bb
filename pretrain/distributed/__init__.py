"""Processes: who is which rank, their groups, and what DeepSpeed and Megatron-Core are told."""
