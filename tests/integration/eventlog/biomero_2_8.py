"""Run by the interpreter of biomero 2.8.3: record a run, or read a log and make its read tables again.

``record URL NAME`` records a run of a script and prints its id. ``read URL`` prints what biomero reads.
"""

import json
import logging
import os
import sys
from typing import Any

os.environ["SQLALCHEMY_URL"] = sys.argv[2]

from sqlalchemy import text

from biomero.database import EngineManager
from biomero.slurm_client import SlurmClient

VIEWS = {
    "biomero_job_view": "slurm_job_id",
    "biomero_job_progress_view": "slurm_job_id",
    "biomero_workflow_progress_view": "workflow_id",
    "biomero_task_execution": "task_id",
}


def client(*, reset: bool) -> Any:
    """A client with its tracker and all listeners, without a cluster."""
    made = SlurmClient(config_only=True, slurm_model_repos={}, slurm_model_images={})
    made.track_workflows = made.enable_job_accounting = True
    made.enable_job_progress = made.enable_workflow_analytics = True
    made.sqlalchemy_url = sys.argv[2]
    made.initialize_analytics_system(reset_tables=reset)
    return made


def record(name: str) -> str:
    """A run as the scripts of biomero record it."""
    tracker = client(reset=False).workflowTracker
    run = tracker.initiate_workflow(name, "a test", 5, 6)
    tracker.start_workflow(run)
    task = tracker.add_task_to_workflow(run, "cells", "v1", {"images": [1]}, {"size": 3})
    tracker.start_task(task)
    tracker.add_job_id(task, 9001 + len(name))
    tracker.update_task_status(task, "RUNNING")
    tracker.update_task_progress(task, "43%")
    tracker.update_task_status(task, "COMPLETED")
    tracker.complete_task(task, "ok")
    tracker.complete_workflow(run)
    return str(run)


def described(aggregate: Any) -> dict[str, Any]:
    """The attributes of a run or task."""
    return {name: value for name, value in vars(aggregate).items() if name not in ("_pending_events", "modified_on")}


def read() -> dict[str, Any]:
    """All aggregates, all events by number, and the read tables after they were made again."""
    found = client(reset=True)
    application = found.workflowTracker
    notices, start = [], 1
    while section := application.notification_log.select(start=start, limit=10):
        notices += section
        start = section[-1].id + 1
    events = [application.mapper.to_domain_event(one) for one in notices]
    subjects = list(dict.fromkeys(event.originator_id for event in events))
    with EngineManager.get_session() as session:
        views = {
            table: [dict(row) for row in session.execute(text(f"SELECT * FROM {table} ORDER BY {key}")).mappings()]
            for table, key in VIEWS.items()
        }
    return {
        "events": [[one.id, type(event).__name__] for one, event in zip(notices, events, strict=True)],
        "aggregates": {str(subject): described(application.repository.get(subject)) for subject in subjects},
        "views": views,
    }


logging.disable(logging.WARNING)
answers, sys.stdout = sys.stdout, sys.stderr
answer: Any = record(sys.argv[3]) if sys.argv[1] == "record" else read()
print(json.dumps(answer, default=str), file=answers)
