"""Events per second from six concurrent processes on PostgreSQL, and the number of lost or duplicate events.

The same program calls both sides through the interface that scripts use. Each process creates runs, submits their jobs,
and then follows the jobs *of another process* to their end, because the scripts of one run are several processes.
Then the expected events are compared with the store and with the four tables that dashboards read.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from sqlalchemy import create_engine, text

from benchmarks.context import Context, environment
from benchmarks.figures import OURS, THEIRS, Figures

PROCESSES = 6

Key = tuple[str, str, str]


@dataclass
class Outcome:
    """The result of a set of calls."""

    seconds: float
    expected: int
    lost: int
    duplicates: int
    rows: int
    rows_wrong: int
    rows_surplus: int
    raised: int
    example: str


def measure(context: Context) -> Figures:
    """Measure both sides several times."""
    figures = Figures(
        "events",
        "events per second from 6 concurrent processes on PostgreSQL, with all projections",
        "The same calls through the interface that scripts use. Jobs are followed by a process other than the one that "
        "submitted them. *Lost*: expected, but not in the store. *Duplicate*: in the store more than once.",
    )
    runs, polls = context.size(4, 1), context.size(10, 2)
    for kind, who in (("ours", OURS), ("theirs", THEIRS)):
        if kind not in context.pythons:
            continue
        outcomes = []
        for _ in range(context.times):
            context.report(f"events, {who}")
            outcomes.append(_once(context, kind, runs, polls))
        expected = outcomes[0].expected
        figures.add(
            "events recorded", who, [(o.expected - o.lost) / o.seconds for o in outcomes], "/s", f"{expected} expected"
        )
        figures.add("lost", who, [o.lost for o in outcomes], "events")
        figures.add("duplicate", who, [o.duplicates for o in outcomes], "events")
        figures.add("calls that raised", who, [o.raised for o in outcomes], "calls", outcomes[0].example)
        rows = outcomes[0].rows
        figures.add("rows missing or wrong", who, [o.rows_wrong for o in outcomes], "rows", f"of {rows}")
        figures.add("unexpected rows", who, [o.rows_surplus for o in outcomes], "rows")
    return figures.grouped()


def _once(context: Context, kind: str, runs: int, polls: int) -> Outcome:
    names = [
        [[1000 * (process + 1) + number, f"{process}.{number}"] for number in range(runs)]
        for process in range(PROCESSES)
    ]
    raised: list[str] = []
    with context.database() as url, ExitStack() as stack:
        # one process creates the tables first; concurrent creation is not measured here
        processes = []
        for _ in range(PROCESSES):
            command = context.program(kind, "tracker_work", kind, url)
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            process = stack.enter_context(subprocess.Popen(command, text=True, env=environment(kind), **pipes))
            stack.callback(process.kill)
            processes.append(process)
            assert process.stdout
            assert json.loads(process.stdout.readline()) == "ready"
        began = time.time()
        answers = _send(processes, [{"do": "begin", "names": mine, "user": 1 + at} for at, mine in enumerate(names)])
        jobs = [answer["made"] for answer in answers]
        raised += [one for answer in answers for one in answer["raised"]]
        neighbours = [jobs[(at + 1) % PROCESSES] for at in range(PROCESSES)]
        answers = _send(processes, [{"do": "go_on", "jobs": theirs, "polls": polls} for theirs in neighbours])
        raised += [one for answer in answers for one in answer["raised"]]
        seconds = time.time() - began
        for process in processes:
            assert process.stdin
            process.stdin.close()
            process.wait(30)
        expected = [
            key for mine in names for number, name in mine for key in _expected_events(str(number), name, polls)
        ]
        found = _stored(url)
        lost = sum(found[key] == 0 for key in expected)
        duplicates = sum(max(0, found[key] - 1) for key in expected)
        rows, wrong, surplus = _rows(url, names)
    return Outcome(
        seconds, len(expected), lost, duplicates, rows, wrong, surplus, len(raised), raised[0] if raised else ""
    )


def _send(processes: list[subprocess.Popen[str]], commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for process, command in zip(processes, commands, strict=True):
        assert process.stdin
        process.stdin.write(json.dumps(command) + "\n")
        process.stdin.flush()
    answers = []
    for process in processes:
        assert process.stdout
        answers.append(json.loads(process.stdout.readline()))
    return answers


def _expected_events(number: str, name: str, polls: int) -> list[Key]:
    """The unique key of every event that the calls for one run should record."""
    run, task = f"run {name}", f"task {name}"
    keys = [("WorkflowInitiated", run, ""), ("TaskCreated", task, ""), ("TaskAdded", task, "")]
    keys += [("TaskStarted", task, ""), ("JobIdAdded", task, number)]
    for poll in range(polls):
        keys.append(("StatusUpdated", task, "COMPLETED" if poll == polls - 1 else f"RUNNING-{poll}"))
        keys.append(("ProgressUpdated", task, f"{round(100 * (poll + 1) / polls)}%"))
    return [*keys, ("TaskCompleted", task, ""), ("WorkflowCompleted", run, "")]


def _stored(url: str) -> Counter[Key]:
    """The number of events in the store for each key."""
    engine = create_engine(url)
    with engine.connect() as connection:
        query = text("SELECT originator_id, topic, state FROM workflowtracker_events ORDER BY id")
        events = [(row[0], row[1].rpartition(".")[2], json.loads(bytes(row[2]))) for row in connection.execute(query)]
    engine.dispose()
    names: dict[str, str] = {}
    for subject, name, state in events:
        if name in ("WorkflowInitiated", "TaskCreated"):
            names[subject.hex] = state["name" if name == "WorkflowInitiated" else "task_name"]
    found: Counter[Key] = Counter()
    for subject, name, state in events:
        if name == "TaskAdded":
            found[(name, names.get(state["task_id"]["_data_"], "?"), "")] += 1
            continue
        value = {"JobIdAdded": "job_id", "StatusUpdated": "status", "ProgressUpdated": "progress"}.get(name)
        found[(name, names.get(subject.hex, "?"), str(state[value]) if value else "")] += 1
    return found


def _rows(url: str, names: list[list[list[Any]]]) -> tuple[int, int, int]:
    """The number of expected rows in the dashboards' tables, of missing or wrong rows, and of surplus rows."""
    wanted: dict[str, set[tuple[Any, ...]]] = {table: set() for table in _QUERIES}
    for process, mine in enumerate(names):
        user = process + 1
        for number, name in mine:
            wanted["job"].add((number, user, user + 100, f"task {name}"))
            wanted["progress"].add((number, "COMPLETED", "100%"))
            wanted["workflow"].add((f"run {name}", "DONE", "100%", user, user + 100, f"task {name}", f"task {name}"))
            wanted["execution"].add((f"task {name}", user, user + 100, "COMPLETED", True))
    engine = create_engine(url)
    wrong = surplus = 0
    with engine.connect() as connection:
        for table, query in _QUERIES.items():
            found = Counter(tuple(row) for row in connection.execute(text(query)))
            wrong += sum(one not in found for one in wanted[table])
            surplus += max(0, found.total() - len(wanted[table]))
    engine.dispose()
    return sum(map(len, wanted.values())), wrong, surplus


_QUERIES = {
    "job": 'SELECT slurm_job_id, v."user", v."group", task_name FROM biomero_job_view v '
    "LEFT JOIN biomero_task_execution USING (task_id)",
    "progress": "SELECT slurm_job_id, status, progress FROM biomero_job_progress_view",
    "workflow": 'SELECT name, status, progress, "user", "group", task, main_task_name FROM '
    "biomero_workflow_progress_view",
    "execution": "SELECT task_name, user_id, group_id, status, end_time IS NOT NULL FROM biomero_task_execution",
}
