"""What comes back from the cluster: the status of jobs, the outcome of tasks, the folders of a run."""
