"""Texts with sets of labels: labels are ordered."""
