"""A supervisor in a process of its own, which is killed at a chosen boundary.

A boundary is a place between two things that last: right before and right after each commit of events, and right before
and right after each remote execution. They are counted where the code really passes them, so a step that is added to
the engine is a boundary more here, without a list.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any
from uuid import UUID

from sqlalchemy.exc import OperationalError

from biomeroworker.cluster.transport.channel import Channel
from biomeroworker.cluster.transport.shell import ShellTransport
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.runlog import RunLog
from biomeroworker.eventlog.store.recorder import SQLRecorder
from tests.resilience import world

_context = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class How:
    """What is special about a supervisor.

    ``kill_at`` is the number of the boundary at which it is killed, ``die_in`` the stage in whose step it is,
    ``cut_at`` the number of the remote execution whose link is cut; ``pause_at_submit`` stops it before its first
    sbatch; ``only`` makes it execute one run to its end instead of serving.
    """

    kill_at: int = 0
    die_in: str = ""
    cut_at: int = 0
    pause_at_submit: bool = False
    only: str = ""


def start(made: world.World, **how: Any) -> BaseProcess:
    """Start a supervisor."""
    _context.set_forkserver_preload(["tests.resilience.child"])
    process = _context.Process(target=_serve, args=(made, How(**how)), daemon=True)
    process.start()
    return process


def stop(process: BaseProcess) -> None:
    """Stop a supervisor as an admin does; kill it if that takes too long."""
    if process.is_alive():
        assert process.pid
        os.kill(process.pid, signal.SIGCONT)
        process.terminate()
        process.join(8)
    if process.is_alive():
        process.kill()
    process.join(5)


@contextlib.contextmanager
def running(made: world.World, **how: Any) -> Iterator[BaseProcess]:
    """Run a supervisor during the block."""
    process = start(made, **how)
    try:
        yield process
    finally:
        stop(process)


class _Boundaries:
    """Counts boundaries, and kills this process at one of them."""

    def __init__(self, kill_at: int) -> None:
        self._kill_at, self._count, self._lock = kill_at, 0, threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self._count += 1
            if self._count == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
                threading.Event().wait()

    def install(self, engine: Any) -> None:
        """Put a boundary before and after each commit and each remote execution."""
        writing = threading.local()
        insert, commit = SQLRecorder.insert_events, engine.dialect.do_commit
        begin, close = ShellTransport._begin, Channel.close

        def insert_events(recorder: SQLRecorder, events: Sequence[Any], **more: Any) -> list[int]:
            writing.events = True
            try:
                return insert(recorder, events, **more)
            finally:
                writing.events = False

        def do_commit(connection: Any) -> None:
            counts = getattr(writing, "events", False)
            if counts:
                self()
            commit(connection)
            if counts:
                self()

        def begin_counted(transport: ShellTransport, *arguments: Any) -> Channel:
            self()
            return begin(transport, *arguments)

        def close_counted(channel: Channel) -> None:
            close(channel)
            self()

        SQLRecorder.insert_events = insert_events  # type: ignore[method-assign]
        engine.dialect.do_commit = do_commit
        ShellTransport._begin = begin_counted  # type: ignore[method-assign]
        Channel.close = close_counted  # type: ignore[method-assign]


def _serve(made: world.World, how: How) -> None:
    with _open_log(made) as log:
        supervisor = made.supervisor(log)
        if how.kill_at:
            _Boundaries(how.kill_at).install(log._engine)
        if how.pause_at_submit:
            _stop_before_submitting(supervisor)
        if how.die_in:
            _die_in(supervisor, RunState(how.die_in))
        if how.cut_at:
            _cut(supervisor._executor.ctx.clusters[""].transport, how.cut_at)
        signal.signal(signal.SIGTERM, lambda *_: supervisor.stop())
        if how.only:
            supervisor.run_until_end(UUID(how.only))
        else:
            supervisor.serve()


def _open_log(made: world.World) -> RunLog:
    """Open the log; try again while the database is down, as a service manager restarts a supervisor."""
    while True:
        try:
            return made.log()
        except OperationalError:
            time.sleep(0.2)


def _die_in(supervisor: Any, stage: RunState) -> None:
    steps = supervisor._executor._steps
    record_status = supervisor._executor.monitor.record_status

    def die(*_: Any) -> float:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    if stage in (RunState.QUEUED, RunState.RUNNING):
        supervisor._executor.monitor.record_status = lambda context, found: (
            die() if context.run.state is stage else record_status(context, found)
        )
    else:
        steps[stage] = die


def _cut(link: Any, number: int) -> None:
    """Cut the connection of this execution after a few bytes."""
    note = link._note

    def counted(argv: Sequence[str]) -> None:
        note(argv)
        if link._started == number:
            link.cut(after_bytes=40)

    link._note = counted


def _stop_before_submitting(supervisor: Any) -> None:
    """Stop the whole process with SIGSTOP right before its first sbatch."""
    cluster = supervisor._executor.ctx.clusters[""]
    submit = cluster.submit

    def submits(job: Any) -> int:
        cluster.submit = submit
        os.kill(os.getpid(), signal.SIGSTOP)
        return submit(job)

    cluster.submit = submits
