"""Time one more event of a run with many events and of a run with none, in a process that has loaded the run and in a
new process.

The history is written directly into the store, with the positions of the projections: with single calls, the incumbent
takes a quarter of an hour.
"""

import json
import sys
import time
from uuid import UUID

from kinds import tracker_at
from sqlalchemy import create_engine, inspect, text

_HISTORY = text(
    "INSERT INTO workflowtracker_events (originator_id, originator_version, topic, state) SELECT :task, 1 + n, :topic,"
    ' convert_to(\'{"timestamp":{"_type_":"datetime_iso","_data_":"2026-11-20T11:20:46.981760+00:00"},'
    "\"progress\":\"' || (n % 100) || '%\"}', 'UTF8') FROM generate_series(0, :count - 1) AS n"
)


def lengthen(url, task, count):
    engine = create_engine(url)
    with engine.begin() as connection:
        topic = "biomero.eventsourcing:Task.ProgressUpdated"
        connection.execute(_HISTORY, {"task": task, "topic": topic, "count": count})
        for table in inspect(engine).get_table_names():
            if table.endswith("_tracking"):
                newest = "(SELECT max(id) FROM workflowtracker_events)"
                connection.execute(text(f"UPDATE {table} SET notification_id = {newest}"))
    engine.dispose()


def more(tracker, task, times, offset):
    """Milliseconds of each of some more events."""
    took = []
    for number in range(times):
        began = time.perf_counter()
        tracker.update_task_progress(task, f"{offset}.{number}%")
        took.append(1000 * (time.perf_counter() - began))
    return took


def main(kind, url, count, times):
    tracker = tracker_at(kind, url)
    if count.startswith("only:"):  # a new process, which has not seen the run
        print(json.dumps(more(tracker, UUID(count[5:]), int(times), 9)))
        return
    found = {}
    for length in (0, int(count)):
        run = tracker.initiate_workflow(f"run of {length}", "a benchmark", 1, 2)
        task = tracker.add_task_to_workflow(run, f"task of {length}", "v1", {}, {})
        if length:
            lengthen(url, task, length)
        first = more(tracker, task, 1, 1)
        found[length] = {"task": str(task), "first": first, "next": more(tracker, task, int(times), 2)}
    print(json.dumps(found))


main(*sys.argv[1:])
