"""Count SQL statements and commits of a run in our engine: accept, execute under a lease, observe, end."""

import json
import sys
from itertools import pairwise
from uuid import uuid4

from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine

from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.eventlog.runlog import RunLog, RunState
from biomeroworker.eventlog.store.fence import held

REQUEST = {"workflow": "nuclei", "version": "v1", "source": "omero", "inputs": {"ids": [7]}, "parameters": {"d": 12}}


def changes(log, run, job):
    """Each change of a run, as a function."""

    def see(state, progress=None):
        status = JobStatus("", -1, JobState[state], state, node="n1", progress=progress)
        return lambda: log.observe(run, 1, status)

    yield "accept", lambda: log.accept(REQUEST, name="nuclei", description="", user=4, group=3, run_id=run)
    yield "start a stage", lambda: log.intend(run, RunState.EXPORTING, version="v1")
    yield "end a stage", lambda: log.complete(run, RunState.EXPORTING, images=2)
    yield "start an attempt", lambda: log.begin_attempt(run, 1, f"biomero-{run}-1")
    yield "end a stage", lambda: log.complete(run, RunState.TRANSFERRING, attempt=1)
    yield "start a stage", lambda: log.intend(run, RunState.SUBMITTING, attempt=1)
    yield "submitted", lambda: log.submitted(run, 1, job)
    yield "new state of the job", see("PENDING")
    for progress in ("10%", "50%", "90%"):
        yield "new progress of the job", see("RUNNING", progress)
        yield "no change", see("RUNNING", progress)
    yield "a fault", lambda: log.fault(run, RunState.RUNNING, attempt=1, kind="transient", message="link down")
    yield "new state of the job", see("COMPLETED", "100%")
    yield "start a stage", lambda: log.intend(run, RunState.FETCHING, attempt=1)
    yield "end a stage", lambda: log.complete(run, RunState.FETCHING, attempt=1)
    yield "start a stage", lambda: log.intend(run, RunState.IMPORTING, attempt=1)
    yield "end a stage", lambda: log.complete(run, RunState.IMPORTING, attempt=1)
    yield "the end", lambda: log.finish(run, made={"Image": 1})


def main(url):
    statements, commits = [], []
    aside = create_engine(url)
    log = RunLog.open(url)
    event.listen(Engine, "before_cursor_execute", lambda c, *_: c.engine is not aside and statements.append(1))
    event.listen(Engine, "commit", lambda c: c.engine is not aside and commits.append(1))

    def newest():
        with aside.connect() as connection:
            return connection.execute(text("SELECT coalesce(max(id), 0) FROM workflowtracker_events")).scalar_one()

    counted = {}
    for number in range(3):
        run = uuid4()
        for at, (what, act) in enumerate(changes(log, run, 100 + number)):
            if at == 1:
                log.leases.acquire("us", 60)
            marks = [(newest(), len(statements), len(commits))]
            if at == 0:
                act()
            else:
                with held(run, "us"):
                    act()
            marks.append((newest(), len(statements), len(commits)))
            counted.setdefault(what, []).extend(
                [tuple(b - a for a, b in zip(first, last, strict=True)) for first, last in pairwise(marks)]
            )
    print(json.dumps({"calls": counted}))


main(*sys.argv[1:])
