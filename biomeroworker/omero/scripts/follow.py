"""The main part of an OMERO script: submit runs, show their progress, and end when they end.

The supervisor executes the runs, so they continue if the script dies. SIGTERM means that the user cancels: a cancel
request is recorded for each run. SIGHUP means that the Processor stops: the script ends, and the runs continue.
"""

from __future__ import annotations

import itertools
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from uuid import UUID

from biomeroworker.config import Settings
from biomeroworker.domain.backoff import backoff_delay
from biomeroworker.domain.request import RunRequest
from biomeroworker.errors import Transient, classify
from biomeroworker.eventlog.aggregates.states import AlreadyEnded
from biomeroworker.omero.scripts import messages
from biomeroworker.workflows.catalogue import Catalogue

#: Seconds between two tries to read the event log while the database is not available.
RETRY_SECONDS = 5.0
#: Seconds in which a failed cancel is tried again; a Processor kills a script about 30 s after SIGTERM.
GRACE_SECONDS = 25.0


class Deployment(Protocol):
    """The parts of `biomeroworker.deployment.deployment.Deployment` that scripts use."""

    settings: Settings

    @property
    def catalogue(self) -> Catalogue:
        """The configured workflows."""
        ...

    def submit(self, request: RunRequest) -> UUID:
        """Accept a run."""
        ...

    def wait(self, run_id: UUID, on_progress: Callable[[Any], None] | None = None, timeout: float | None = None) -> Any:
        """Wait for the end of a run."""
        ...

    def cancel(self, run_id: UUID, by: str) -> None:
        """Request the end of a run."""
        ...

    def job_log(self, run: Any) -> str:
        """The log of an ended run."""
        ...


class Signalled(BaseException):
    """A signal that ends the script. Not an `Exception`, so that no handler of errors catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def signals() -> Iterator[Callable[[], None]]:
    """Raise `Signalled` for SIGTERM and SIGHUP, after the function that is yielded was called.

    Earlier signals are raised by that call: while runs are submitted, a signal must not interrupt the script.
    """
    enabled, pending = False, []

    def caught(number: int, frame: Any) -> None:
        nonlocal enabled
        if enabled:
            enabled = False  # a second signal must not interrupt the handling of the first
            raise Signalled(number)
        pending.append(number)

    def enable_signals() -> None:
        nonlocal enabled
        enabled = True
        if pending:
            raise Signalled(pending[0])

    before = {number: signal.signal(number, caught) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield enable_signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def submit_and_follow(
    deployment: Deployment,
    requests: Sequence[RunRequest],
    report: Callable[[str], None],
    *,
    by: str,
    describe: Callable[[Any], str] = messages.describe,
    detach: bool = False,
) -> tuple[bool, list[Any]]:
    """Submit the requests and show the runs until all have ended.

    If a request is rejected, the others are submitted nevertheless; an error is raised only if all are rejected.

    Parameters
    ----------
    report
        Called with a message at each change.
    describe
        Makes the message from a run.
    detach
        Return when the runs are accepted; they continue.

    Returns
    -------
    whether all runs succeeded (with ``detach``: were accepted), and the runs that have ended
    """
    shown: dict[UUID, str] = {}
    refused: list[str] = []

    def on_progress(run: Any) -> None:
        shown[run.id] = describe(run)
        report("\n".join([*refused, *shown.values()]))

    ended: list[Any] = []
    runs: list[UUID] = []
    with signals() as enable_signals:
        for request in requests:
            try:
                run = deployment.submit(request)
            except Exception as error:
                # the runs that were accepted before must be shown
                if request is requests[-1] and not runs:
                    raise
                refused.append(f"{request.workflow} is NOT accepted: {error}.")
                continue
            runs.append(run)
            shown[run] = (messages.detached if detach else messages.accepted)(request.workflow, run)
        report("\n".join([*refused, *shown.values()]))
        try:
            enable_signals()
            if detach:
                return not refused, ended
            for run in runs:
                ended.append(_follow(deployment, run, on_progress))
                on_progress(ended[-1])
        except Signalled as signalled:
            going = [run for run in runs if run not in {one.id for one in ended}]
            words = dict.fromkeys(going, "this script ends, the run continues")
            if signalled.number == signal.SIGTERM:
                words = _cancel(deployment, going, by)
            report("\n".join([*refused, *shown.values(), *(f"run {run}: {word}" for run, word in words.items())]))
            return signalled.number == signal.SIGHUP and not refused, ended
    return not refused and all(str(run.state) == "done" for run in ended), ended


def _cancel(deployment: Deployment, runs: Sequence[UUID], by: str) -> dict[UUID, str]:
    """Cancel runs, with retries for `GRACE_SECONDS`; returns a message for each run."""
    end = time.monotonic() + GRACE_SECONDS
    left, words = list(runs), {}
    while True:
        for run in list(left):
            try:
                deployment.cancel(run, by)
            except AlreadyEnded:
                words[run] = "it had already ended"
            except Exception as error:
                words[run] = (
                    f"NOT cancelled, it continues: the request could not be recorded ({type(error).__name__}: {error});"
                    f" an administrator can: biomeroworker cancel {run}"
                )
                if isinstance(classify(error), Transient):
                    continue
            else:
                words[run] = "cancel requested; the job on the cluster is cancelled too"
            left.remove(run)
        if not left or time.monotonic() + min(RETRY_SECONDS, GRACE_SECONDS) > end:
            return words
        time.sleep(RETRY_SECONDS)


def _follow(deployment: Deployment, run: UUID, on_progress: Callable[[Any], None]) -> Any:
    """Wait for the end of a run, with retries while the event log cannot be read."""
    for attempt in itertools.count(1):
        try:
            return deployment.wait(run, on_progress)
        except Exception as error:
            if not isinstance(classify(error), Transient):
                raise
            print(f"run {run} cannot be followed at the moment ({type(error).__name__}); trying again", file=sys.stderr)
            time.sleep(backoff_delay(attempt, first=RETRY_SECONDS, longest=6 * RETRY_SECONDS))
    raise AssertionError("unreachable")


def fail(message: str) -> None:
    """End the script so that OMERO shows an error; the message is also written to stderr."""
    print(message, file=sys.stderr)
    sys.exit(1)
