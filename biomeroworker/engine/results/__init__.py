"""What comes back from the cluster: the status of array jobs, the outcome of tasks, and a run's local folder."""
