"""The same programming interface of biomeroworker or of the incumbent, for programs that run in either environment."""

import json
import os
from typing import Any


def tracker_at(kind: str, url: str) -> Any:
    """The tracker with all projections, as scripts use it."""
    if kind == "ours":
        from biomeroworker.eventlog.runlog import RunLog

        return RunLog.open(url).tracker
    import logging

    from biomero.slurm_client import SlurmClient

    logging.disable(logging.WARNING)
    os.environ["SQLALCHEMY_URL"] = url
    client = SlurmClient(config_only=True, slurm_model_repos={}, slurm_model_images={})
    client.track_workflows = client.enable_job_accounting = True
    client.enable_job_progress = client.enable_workflow_analytics = True
    client.sqlalchemy_url = url
    client.initialize_analytics_system()
    return client.workflowTracker


def answering():
    """Return a function that writes JSON to the caller; all other output goes to standard error from now on."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return lambda value: print(json.dumps(value), file=answers, flush=True)
