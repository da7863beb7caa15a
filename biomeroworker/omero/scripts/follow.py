"""An OMERO script that shows a run: accept it, say how it goes, and end when it ends.

The run does not live here. The script may die at any moment and the run goes on. SIGTERM is a user's cancel: it becomes
a recorded request to end the run. SIGHUP is our Processor that goes away: the script says so and leaves.
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

from biomeroworker.domain.backoff import backoff_delay
from biomeroworker.domain.request import RunRequest
from biomeroworker.domain.summary import describe_outputs
from biomeroworker.errors import Transient, classify
from biomeroworker.eventlog.aggregates.states import AlreadyEnded

#: Seconds between two tries to read a log that is away.
RETRY_SECONDS = 5.0
#: Seconds in which a cancel is tried again: a Processor kills a script some 30 s after it asked it to end.
GRACE_SECONDS = 25.0


class Deployment(Protocol):
    """The methods of `biomeroworker.deployment.deployment.Deployment` that are used here."""

    def submit(self, request: RunRequest) -> UUID:
        """Accept a run."""
        ...

    def wait(self, run_id: UUID, on_progress: Callable[[Any], None] | None = None, timeout: float | None = None) -> Any:
        """Wait for its end."""
        ...

    def cancel(self, run_id: UUID, by: str) -> None:
        """Ask for its end."""
        ...


class Signalled(BaseException):
    """A signal that ends the script. No `Exception`, so that nothing on the way takes it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def signals() -> Iterator[Callable[[], None]]:
    """Turn SIGTERM and SIGHUP into `Signalled`, at the earliest when what is yielded has been called.

    Until then a signal is kept: a run must not be accepted and then not be known.
    """
    armed, kept = False, []

    def caught(number: int, frame: Any) -> None:
        nonlocal armed
        if armed:
            armed = False  # the first is being dealt with: a second must not cut that short
            raise Signalled(number)
        kept.append(number)

    def enable_signals() -> None:
        nonlocal armed
        armed = True
        if kept:
            raise Signalled(kept[0])

    before = {number: signal.signal(number, caught) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield enable_signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def submit_and_follow(
    deployment: Deployment, requests: Sequence[RunRequest], report: Callable[[str], None], *, by: str
) -> tuple[bool, list[Any]]:
    """Hand in the requests and show the runs until all have ended.

    ``report`` hears a message whenever something changes, and the last one at the end. Returns whether all is well, and
    the runs that have ended. A request that is not accepted does not keep the others from being handed in and shown;
    an error is raised only if none was accepted.
    """
    told: dict[UUID, str] = {}
    refused: list[str] = []

    def on_progress(run: Any) -> None:
        told[run.id] = describe(run)
        report("\n".join([*refused, *told.values()]))

    ended: list[Any] = []
    runs: list[UUID] = []
    with signals() as enable_signals:
        for request in requests:
            try:
                run = deployment.submit(request)
            except Exception as error:
                # what was accepted before is carried and must be shown, whatever became of this one
                if request is requests[-1] and not runs:
                    raise
                refused.append(f"{request.workflow}: NOT accepted: {error}")
                continue
            runs.append(run)
            told[run] = f"{request.workflow}: accepted as run {run}"
        report("\n".join([*refused, *told.values()]))
        try:
            enable_signals()
            for run in runs:
                ended.append(_follow(deployment, run, on_progress))
                on_progress(ended[-1])
        except Signalled as signalled:
            going = [run for run in runs if run not in {one.id for one in ended}]
            words = dict.fromkeys(going, "this script leaves, the run goes on")
            if signalled.number == signal.SIGTERM:
                words = _cancel(deployment, going, by)
            report("\n".join([*refused, *told.values(), *(f"run {run}: {word}" for run, word in words.items())]))
            return signalled.number == signal.SIGHUP and not refused, ended
    return not refused and all(str(run.state) == "done" for run in ended), ended


def _cancel(deployment: Deployment, runs: Sequence[UUID], by: str) -> dict[UUID, str]:
    """Ask for the end of runs, again and again within the grace while the log is away; what became of it, in words."""
    end = time.monotonic() + GRACE_SECONDS
    left, said = list(runs), {}
    while True:
        for run in list(left):
            try:
                deployment.cancel(run, by)
            except AlreadyEnded:
                said[run] = "it had ended before the cancel came"
            except Exception as error:
                said[run] = (
                    f"NOT cancelled, it goes on: the request could not be recorded ({type(error).__name__}: {error});"
                    f" an administrator can: biomeroworker cancel {run}"
                )
                if isinstance(classify(error), Transient):
                    continue
            else:
                said[run] = "cancel requested; the job on the cluster is ended too"
            left.remove(run)
        if not left or time.monotonic() + min(RETRY_SECONDS, GRACE_SECONDS) > end:
            return said
        time.sleep(RETRY_SECONDS)


def _follow(deployment: Deployment, run: UUID, on_progress: Callable[[Any], None]) -> Any:
    """Wait for a run's end, also while the log cannot be read for a time: the run goes on in another process."""
    for attempt in itertools.count(1):
        try:
            return deployment.wait(run, on_progress)
        except Exception as error:
            if not isinstance(classify(error), Transient):
                raise
            print(f"run {run} cannot be watched now ({type(error).__name__}); looking again", file=sys.stderr)
            time.sleep(backoff_delay(attempt, first=RETRY_SECONDS, longest=6 * RETRY_SECONDS))
    raise AssertionError("unreachable")


def describe(run: Any) -> str:
    """One run in words: where it is, and when it has ended badly all of its report."""
    state = str(run.state)
    name = f"{run.name}, run {run.id}"
    if state == "failed":
        report = run.report
        lines = [f"{name}: FAILED at {report.get('stage')}: {report.get('message')} ({report.get('kind')})"]
        lines += [str(report["detail"])] if report.get("detail") else []
        return "\n".join([*lines, f"Next: {report.get('next_step')}"])
    if state == "cancelled":
        return f"{name}: cancelled"
    if getattr(run, "paused", False):
        return f"{name}: PAUSED at {state}: {run.pause_reason}"
    if state == "done":
        said = f"{name}: done; {describe_outputs(run.report.get('made') or {})}"
        if run.report.get("failed"):  # partly done
            return f"{said}\nNOT all: {run.report.get('message')}\nNext: {run.report.get('next_step')}"
        return said
    job = f" (SLURM job {run.job_ids[-1]})" if run.job_ids else ""
    return f"{name}: {state}{job}"


def made_objects(runs: Sequence[Any]) -> Iterator[tuple[str, int]]:
    """Class and id of what the runs made and a user would want to open first: datasets."""
    for run in runs:
        for outcome in getattr(run, "outcomes", {}).values():
            for made in outcome.get("made", []) if isinstance(outcome.get("made"), list) else []:
                kind, _, number = str(made.get("reference", "")).partition(":")
                if made.get("kind") == "Dataset" and number.isdigit():
                    yield kind, int(number)


def fail(message: str) -> None:
    """End the script so that OMERO shows the job as an error; the message is its stderr too."""
    print(message, file=sys.stderr)
    sys.exit(1)
