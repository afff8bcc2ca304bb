"""Tokenizers, tasks and batches. Knows nothing of models."""
