"""Mutual information of units with the source, from counts or small models."""
