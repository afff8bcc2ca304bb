"""SLURM batch scripts, and the program that renders, submits and watches them."""
