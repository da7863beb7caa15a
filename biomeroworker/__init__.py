"""The node between OMERO and a SLURM cluster."""

__version__ = "0.1.0"
