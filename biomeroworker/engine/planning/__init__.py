"""What is decided before a run moves: its plan, its job, its chunks, the space that it needs."""
