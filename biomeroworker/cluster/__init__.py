"""The bridge to a cluster: transport (SSH), scheduler (SLURM), containers, remote layout. Knows nothing of OMERO."""
