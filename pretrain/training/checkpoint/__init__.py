"""Checkpoints that any layout reads: pieces of named tensors, each with its place in the whole."""
