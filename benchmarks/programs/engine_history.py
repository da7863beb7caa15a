"""Time one more observation of a job in our engine, on a run with thousands of observations and on a run with none."""

import json
import sys
import time
from uuid import UUID

from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.eventlog.runlog import RunLog, RunState

REQUEST = {"workflow": "nuclei", "version": "v1", "source": "omero", "inputs": {"ids": [7]}, "parameters": {"d": 12}}


def started(log):
    run = log.accept(REQUEST, name="nuclei", description="", user=4, group=3)
    log.intend(run, RunState.EXPORTING, version="v1")
    log.complete(run, RunState.EXPORTING, images=2)
    log.begin_attempt(run, 1, f"biomero-{run}-1")
    log.complete(run, RunState.TRANSFERRING, attempt=1)
    log.intend(run, RunState.SUBMITTING, attempt=1)
    log.submitted(run, 1, 7)
    return run


def observe(log, run, count, node):
    """Milliseconds of each of some observations that all contain a change."""
    took = []
    for number in range(count):
        began = time.perf_counter()
        status = JobStatus("", -1, JobState.RUNNING, "RUNNING", node=node, progress=f"{1 + number % 99}%")
        log.observe(run, 1, status)
        took.append(1000 * (time.perf_counter() - began))
    return took


def main(url, count, times):
    with RunLog.open(url) as log:
        if count.startswith("only:"):
            print(json.dumps(observe(log, UUID(count[5:]), int(times), "n3")))
            return
        found = {}
        for length in (0, int(count)):
            run = started(log)
            events = len(log.events(run))
            while length and len(log.events(run)) < length:
                observe(log, run, 200, "n1")
            events = len(log.events(run))
            first = observe(log, run, 1, "n2")
            found[length] = {
                "task": str(run),
                "events": events,
                "first": first,
                "next": observe(log, run, int(times), "n2"),
            }
        print(json.dumps(found))


main(*sys.argv[1:])
