"""All that knows SLURM: batch scripts, how they are filled in, and SLURM's own commands."""
