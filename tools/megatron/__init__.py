"""Megatron-LM's command lines in terms of our configuration."""
