"""SLURM: commands as argument lists, their answers as values, and a submission that happens once."""
