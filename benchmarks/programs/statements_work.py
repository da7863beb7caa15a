"""Count SQL statements, commits and recorded events of each call of the interface of scripts."""

import json
import sys

from kinds import tracker_at
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine


def main(kind, url):
    statements, commits = [], []
    tracker = tracker_at(kind, url)
    aside = create_engine(url)

    def newest():
        with aside.connect() as connection:
            return connection.execute(text("SELECT coalesce(max(id), 0) FROM workflowtracker_events")).scalar_one()

    @event.listens_for(Engine, "before_cursor_execute")
    def executed(connection, cursor, statement, parameters, context, executemany):
        if connection.engine is not aside:
            statements.append(statement)

    @event.listens_for(Engine, "commit")
    def committed(connection):
        if connection.engine is not aside:
            commits.append(1)

    counted = {}

    def call(method, *arguments):
        before = newest()
        statements.clear()
        commits.clear()
        answer = getattr(tracker, method)(*arguments)
        row = counted.setdefault(method, [])
        row.append((newest() - before, len(statements), len(commits)))
        return answer

    for number in range(3):
        run = call("initiate_workflow", f"run {number}", "a benchmark", 1, 2)
        task = call("add_task_to_workflow", run, "nuclei", "v1", {"images": [1]}, {"diameter": 12})
        call("start_task", task)
        call("add_job_id", task, 100 + number)
        for poll in range(5):
            call("update_task_status", task, f"RUNNING-{poll}")
            call("update_task_progress", task, f"{20 * poll}%")
        call("update_task_status", task, "COMPLETED")
        call("complete_task", task, "done")
        call("complete_workflow", run)
    # a poll without a change
    run = tracker.initiate_workflow("run 9", "a benchmark", 1, 2)
    task = tracker.add_task_to_workflow(run, "nuclei", "v1", {}, {})
    tracker.add_job_id(task, 109)
    tracker.update_task_status(task, "RUNNING")
    tracker.update_task_progress(task, "40%")
    news = {}
    for method, word in (("update_task_status", "RUNNING"), ("update_task_progress", "40%")):
        call(method, task, word)
        news[method] = counted[method].pop()
    print(json.dumps({"calls": counted, "no change": news}))


main(*sys.argv[1:])
