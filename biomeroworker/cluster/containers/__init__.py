"""Container images on the cluster: how they are named, pulled, checked and run."""
