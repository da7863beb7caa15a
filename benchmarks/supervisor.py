"""The cost of 1, 10 and 1,000 runs whose jobs are running: commands on the cluster, memory, processor time.

Ours is the real ``biomeroworker supervise`` on PostgreSQL, with a real sshd that records its commands, and a fake SLURM
whose jobs never end. The runs are accepted, exported, sent and submitted as usual. The incumbent has one process per
run, which runs its own loop.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import UUID

from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.context import Context, environment
from benchmarks.deployment import deploy
from benchmarks.figures import OURS, THEIRS, Figures
from benchmarks.frontend import FrontEnd
from benchmarks.processes import Cost, cost
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.domain.request import RunRequest
from biomeroworker.engine.planning.plan import ExecutionPlan
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.runlog import RunLog

#: Seconds without a change after which the supervisor polls at its longest interval.
SETTLE_SECONDS = 45


def measure(context: Context) -> Figures:
    """Measure all numbers of runs; for the incumbent only those that fit on one machine."""
    window = context.size(60, 3)
    figures = Figures(
        "supervisor",
        "runs whose jobs are running",
        f"Counted over {window} s, after 45 s without a change. A *call* is a command on the login node of the "
        "cluster. Memory is resident memory, without the process of the SSH connection (6 MB).",
    )
    with context.database():  # the server is started once
        sizes = [("ours", _ours, runs) for runs in (1, 10, context.size(1000, 12))]
        if "theirs" in context.pythons:
            sizes += [("theirs", _theirs, runs) for runs in (1, context.size(10, 2))]

    def run_one(one: tuple[str, Callable[..., None], int]) -> Figures:
        part = Figures("", "", "")
        with context.database() as url:
            one[1](context, part, url, one[2], window)
        return part

    # in parallel: each has its own login node, database and processes, and is almost idle
    with ThreadPoolExecutor(len(sizes)) as pool:
        for part in pool.map(run_one, sizes):
            figures.rows += part.rows
    _extrapolated(figures)
    return figures.grouped()


def _ours(context: Context, figures: Figures, url: str, runs: int, window: float) -> None:
    with ExitStack() as stack:
        server = FrontEnd()
        stack.callback(server.close)
        folder = context.work("supervisor")
        config = deploy(server, folder, url)
        command = [sys.executable, "-c", "from biomeroworker.cli import main; main()", "supervise", "-c", str(config)]
        really = min(runs, 10)
        deployment = stack.enter_context(Deployment.load(config))
        ids = [deployment.submit(_request(folder, number)) for number in range(really)]
        began = time.monotonic()
        with _running(command, folder) as process:
            _until_running(url, really, process)
        context.report(f"{really} runs went from accepted to running in {time.monotonic() - began:.0f} s")
        if runs > really:
            _add_running_runs(deployment.log, server, ids[0], folder, runs - really)
        began = time.monotonic()
        process = stack.enter_context(_running(command, folder))
        _until_running(url, runs, process)
        context.report(
            f"{runs:,} runs are supervised, {time.monotonic() - began:.0f} s after the start of the supervisor"
        )
        _sleep(context, SETTLE_SECONDS)
        first = time.time()
        calls, before, after = _measure_window(server, process.pid, window)
        polled = (server.home / ".polled").read_text().split()  # our transport sends commands that a log does not show
        polls = [when for when in polled if first <= float(when) < first + window]
        what = f"{runs:,} runs"
        minutes = window / 60
        figures.add(f"{what}: status calls", OURS, len(polls) / minutes, "/min")
        figures.add(f"{what}: all calls", OURS, len(calls) / minutes, "/min")
        figures.add(f"{what}: memory", OURS, after.resident, "MB", f"peak {after.peak:.0f} MB")
        figures.add(f"{what}: processor", OURS, (after.cpu - before.cpu) / minutes, "s/min")


def _request(folder: Path, number: int) -> RunRequest:
    outputs = {"folder": str(folder / f"results-{number}")}
    return RunRequest(workflow="waits", source="folder", inputs={"folder": str(folder / "images")}, outputs=outputs)


def _add_running_runs(log: RunLog, server: FrontEnd, like: UUID, folder: Path, count: int) -> None:
    """Add more runs like a running one to the event log and to the fake SLURM."""
    plan = ExecutionPlan.from_run(log.run(like)).detail()
    with (server.home / ".jobs").open("a") as jobs:
        for number in range(count):
            request = _request(folder, 1000 + number).model_dump(mode="json")
            run = log.accept(request, name="waits", description="waits", user=-1, group=-1)
            name = f"biomero-{run}-1"
            log.intend(run, RunState.EXPORTING, **plan)
            log.complete(run, RunState.EXPORTING, images=1)
            log.begin_attempt(run, 1, name)
            log.complete(run, RunState.TRANSFERRING, attempt=1)
            log.intend(run, RunState.SUBMITTING, attempt=1, name=name)
            log.submitted(run, 1, 1000 + number)
            jobs.write(f"{1000 + number} {name}\n")


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "supervisor.log").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=folder, env=environment("ours"))
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()


def _until_running(url: str, runs: int, process: subprocess.Popen[bytes], seconds: float = 1800) -> None:
    engine = create_engine(url)
    end = time.monotonic() + seconds
    query = text("SELECT state, count(*) FROM biomeroworker_run GROUP BY state")
    found: dict[str, int] = {}
    while found.get("running", 0) < runs:
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the supervisor did not start the jobs of its runs: {found}")
        time.sleep(0.5)
        with suppress(SQLAlchemyError), engine.connect() as connection:
            found = {str(state): int(count) for state, count in connection.execute(query)}
        if {"failed", "cancelled"} & set(found):
            raise RuntimeError(f"a run has failed: {found}")
    engine.dispose()


def _measure_window(server: FrontEnd, pid: int, window: float) -> tuple[list[str], Cost, Cost]:
    """The commands during the window, and the cost of the process before and after it."""
    began, before = time.time(), cost(pid)
    time.sleep(window)
    after = cost(pid)
    return [command for when, command in server.commands() if began <= when < began + window], before, after


def _sleep(context: Context, seconds: float) -> None:
    time.sleep(1 if context.tiny else seconds)


def _theirs(context: Context, figures: Figures, url: str, runs: int, window: float) -> None:
    context.report(f"{runs} run{'s' * (runs > 1)} of {THEIRS}")
    with ExitStack() as stack:
        server = FrontEnd()
        stack.callback(server.close)
        deploy(server, context.work("supervisor"), url)
        processes = []
        for number in range(runs):
            command = context.program("theirs", "follow_work", str(server.config), server.alias, url, str(100 + number))
            process = stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            )
            stack.callback(process.kill)
            assert process.stdout
            if json.loads(process.stdout.readline() or "null") == "ready":  # otherwise it has failed
                processes.append(process)
        _sleep(context, 10)
        alive = [process for process in processes if process.poll() is None]
        before = {process.pid: cost(process.pid) for process in alive}
        began = time.time()
        time.sleep(window)
        alive = [process for process in alive if process.poll() is None]
        after = {process.pid: cost(process.pid) for process in alive}
        calls = [command for when, command in server.commands() if began <= when < began + window]
        what, minutes = f"{runs:,} runs", window / 60
        lost = runs - len(alive)
        note = f"{lost} of {runs} processes crashed" if lost else ""
        figures.add(f"{what}: status calls", THEIRS, sum("sacct" in one for one in calls) / minutes, "/min", note)
        figures.add(f"{what}: all calls", THEIRS, len(calls) / minutes, "/min", "reads the job's log with a call")
        resident = sum(one.resident for one in after.values())
        figures.add(f"{what}: memory", THEIRS, resident, "MB", "one process per run")
        spent = sum(one.cpu - before[pid].cpu for pid, one in after.items())
        figures.add(f"{what}: processor", THEIRS, spent / minutes, "s/min")


def _extrapolated(figures: Figures) -> None:
    """Compute the values for a thousand processes, which two cores cannot run."""
    for what, unit in (("status calls", "/min"), ("all calls", "/min"), ("memory", "MB"), ("processor", "s/min")):
        one = figures.value(f"1 runs: {what}", THEIRS)
        if one is not None and any(row.what.startswith("1,000 runs") for row in figures.rows):
            figures.add(f"1,000 runs: {what}", THEIRS, 1000 * one, unit, "computed: 1,000 × one")
