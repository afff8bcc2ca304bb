"""Starting training jobs on a SLURM cluster: batch scripts under `slurm/`."""
