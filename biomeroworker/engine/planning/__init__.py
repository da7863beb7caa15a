"""What is decided before data is moved: a run's plan, its job options, its chunks, and the disk space it needs."""
