"""The bridge to a cluster: transport (SSH), scheduler (SLURM), container runtime, remote layout. Knows nothing of OMERO."""
