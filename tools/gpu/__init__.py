"""Proof on a GPU: what a machine needs, and one script that shows all of it there."""
