"""Distributed pretraining of GPT models that predict the information-rich token first."""

__version__ = "0.1.0"
