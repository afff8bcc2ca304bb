"""Sharded counts of features and units."""
