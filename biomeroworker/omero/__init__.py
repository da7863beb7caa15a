"""OMERO: sessions, export, import, annotations, tables, ROIs. Knows nothing of SLURM."""
