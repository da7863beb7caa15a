"""From a workflow's descriptor to the job script that runs it."""
