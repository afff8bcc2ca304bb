"""Arithmetic: digits of an answer are reordered."""
