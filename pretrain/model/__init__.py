"""GPT models from Megatron-Core layer specs. Knows nothing of selection or data."""
