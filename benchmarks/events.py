"""Events per second from six processes at once on PostgreSQL, and what of them is lost or doubled.

Both sides are called through the interface that scripts use, by the same program: each process makes runs, submits
their jobs, and then follows to their end the jobs *that its neighbour submitted*, because the scripts of one run are
several processes. What was meant is then looked for in the store and in the four tables that dashboards read.
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
    """What became of a set of calls."""

    seconds: float
    meant: int
    lost: int
    doubled: int
    rows: int
    rows_wrong: int
    rows_surplus: int
    raised: int
    example: str


def measure(context: Context) -> Figures:
    """Both sides, several times."""
    figures = Figures(
        "events",
        "events per second from 6 processes at once on PostgreSQL, all projections on",
        "The same calls through the interface that scripts use; jobs are followed by another process than the one that "
        "submitted them. *Lost*: meant, and not in the store. *Doubled*: in the store more than once.",
    )
    runs, polls = context.size(4, 1), context.size(10, 2)
    for kind, who in (("ours", OURS), ("theirs", THEIRS)):
        if kind not in context.pythons:
            continue
        outcomes = []
        for _ in range(context.times):
            context.say(f"events, {who}")
            outcomes.append(_once(context, kind, runs, polls))
        meant = outcomes[0].meant
        figures.add("events recorded", who, [(o.meant - o.lost) / o.seconds for o in outcomes], "/s", f"{meant} meant")
        figures.add("lost", who, [o.lost for o in outcomes], "events")
        figures.add("doubled", who, [o.doubled for o in outcomes], "events")
        figures.add("calls that raised", who, [o.raised for o in outcomes], "calls", outcomes[0].example)
        rows = outcomes[0].rows
        figures.add("rows missing or wrong", who, [o.rows_wrong for o in outcomes], "rows", f"of {rows}")
        figures.add("rows that nobody meant", who, [o.rows_surplus for o in outcomes], "rows")
    return figures.grouped()


def _once(context: Context, kind: str, runs: int, polls: int) -> Outcome:
    names = [
        [[1000 * (process + 1) + number, f"{process}.{number}"] for number in range(runs)]
        for process in range(PROCESSES)
    ]
    raised: list[str] = []
    with context.database() as url, ExitStack() as stack:
        # its tables are made by one, before; making them at once is another question
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
        answers = _tell(processes, [{"do": "begin", "names": mine, "user": 1 + at} for at, mine in enumerate(names)])
        jobs = [answer["made"] for answer in answers]
        raised += [one for answer in answers for one in answer["raised"]]
        neighbours = [jobs[(at + 1) % PROCESSES] for at in range(PROCESSES)]
        answers = _tell(processes, [{"do": "go_on", "jobs": theirs, "polls": polls} for theirs in neighbours])
        raised += [one for answer in answers for one in answer["raised"]]
        seconds = time.time() - began
        for process in processes:
            assert process.stdin
            process.stdin.close()
            process.wait(30)
        meant = [key for mine in names for number, name in mine for key in _meant(str(number), name, polls)]
        found = _stored(url)
        lost = sum(found[key] == 0 for key in meant)
        doubled = sum(max(0, found[key] - 1) for key in meant)
        rows, wrong, surplus = _rows(url, names)
    return Outcome(seconds, len(meant), lost, doubled, rows, wrong, surplus, len(raised), raised[0] if raised else "")


def _tell(processes: list[subprocess.Popen[str]], commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for process, command in zip(processes, commands, strict=True):
        assert process.stdin
        process.stdin.write(json.dumps(command) + "\n")
        process.stdin.flush()
    answers = []
    for process in processes:
        assert process.stdout
        answers.append(json.loads(process.stdout.readline()))
    return answers


def _meant(number: str, name: str, polls: int) -> list[Key]:
    """Every event that the calls for one run mean, by what tells it from all others."""
    run, task = f"run {name}", f"task {name}"
    keys = [("WorkflowInitiated", run, ""), ("TaskCreated", task, ""), ("TaskAdded", task, "")]
    keys += [("TaskStarted", task, ""), ("JobIdAdded", task, number)]
    for poll in range(polls):
        keys.append(("StatusUpdated", task, "COMPLETED" if poll == polls - 1 else f"RUNNING-{poll}"))
        keys.append(("ProgressUpdated", task, f"{round(100 * (poll + 1) / polls)}%"))
    return [*keys, ("TaskCompleted", task, ""), ("WorkflowCompleted", run, "")]


def _stored(url: str) -> Counter[Key]:
    """What is in the store, by the same keys."""
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
        told = {"JobIdAdded": "job_id", "StatusUpdated": "status", "ProgressUpdated": "progress"}.get(name)
        found[(name, names.get(subject.hex, "?"), str(state[told]) if told else "")] += 1
    return found


def _rows(url: str, names: list[list[list[Any]]]) -> tuple[int, int, int]:
    """How many rows the dashboards' tables should have, how many are missing or wrong, and how many are too many."""
    wanted: dict[str, set[tuple[Any, ...]]] = {table: set() for table in _QUESTIONS}
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
        for table, question in _QUESTIONS.items():
            found = Counter(tuple(row) for row in connection.execute(text(question)))
            wrong += sum(one not in found for one in wanted[table])
            surplus += max(0, found.total() - len(wanted[table]))
    engine.dispose()
    return sum(map(len, wanted.values())), wrong, surplus


_QUESTIONS = {
    "job": 'SELECT slurm_job_id, v."user", v."group", task_name FROM biomero_job_view v '
    "LEFT JOIN biomero_task_execution USING (task_id)",
    "progress": "SELECT slurm_job_id, status, progress FROM biomero_job_progress_view",
    "workflow": 'SELECT name, status, progress, "user", "group", task, main_task_name FROM '
    "biomero_workflow_progress_view",
    "execution": "SELECT task_name, user_id, group_id, status, end_time IS NOT NULL FROM biomero_task_execution",
}
