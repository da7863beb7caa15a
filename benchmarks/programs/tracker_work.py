"""One of the processes that write to the event log concurrently, through the interface that scripts use.

Reads commands from standard input, one JSON document per line, and writes one answer per line with the
calls that raised. ``begin`` creates runs and submits their jobs; ``go_on`` follows the given jobs to their end.
"""

import json
import sys
import time

from kinds import tracker_at


class Caller:
    """Calls methods of the tracker and collects the calls that raised."""

    def __init__(self, tracker):
        self.tracker, self.raised = tracker, []

    def __call__(self, method, *arguments):
        try:
            return getattr(self.tracker, method)(*arguments)
        except Exception as error:
            self.raised.append(f"{method}: {type(error).__name__}: {str(error).strip()[:90]}")
            return None


def begin(call, names, user):
    made = []
    for number, name in names:
        run = call("initiate_workflow", f"run {name}", "a benchmark", user, user + 100)
        task = (
            call("add_task_to_workflow", run, f"task {name}", "v1", {"images": [1, 2]}, {"diameter": 12})
            if run
            else None
        )
        if task:
            call("start_task", task)
            call("add_job_id", task, number)
        made.append([name, str(run) if run else "", str(task) if task else ""])
    return made


def go_on(call, jobs, polls):
    from uuid import UUID

    for name, run, task in jobs:
        if not task:
            continue
        for poll in range(polls):
            last = poll == polls - 1
            call("update_task_status", UUID(task), "COMPLETED" if last else f"RUNNING-{poll}")
            call("update_task_progress", UUID(task), f"{round(100 * (poll + 1) / polls)}%")
        call("complete_task", UUID(task), f"done {name}")
        call("complete_workflow", UUID(run))


def main(kind, url):
    call = Caller(tracker_at(kind, url))
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        began = time.time()
        if command["do"] == "begin":
            made = begin(call, command["names"], command["user"])
        else:
            made = go_on(call, command["jobs"], command["polls"])
        print(json.dumps({"made": made, "raised": call.raised, "began": began, "ended": time.time()}), flush=True)
        call.raised = []


main(*sys.argv[1:])
