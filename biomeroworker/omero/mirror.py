"""An OMERO script that shows a run: accept it, say how it goes, and end when it ends.

The run does not live here. The script may die at any moment and the run goes on. SIGTERM is a user's cancel: it becomes
a recorded request to end the run. SIGHUP is our Processor that goes away: the script says so and leaves.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from uuid import UUID

from biomeroworker.errors import Transient, classify
from biomeroworker.source import RunRequest

#: Seconds between two tries to read a log that is away.
RETRY = 5.0


class Client(Protocol):
    """What is needed of `biomeroworker.client.SlurmClient`."""

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

    def arm() -> None:
        nonlocal armed
        armed = True
        if kept:
            raise Signalled(kept[0])

    before = {number: signal.signal(number, caught) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield arm
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def mirror(
    client: Client, requests: Sequence[RunRequest], say: Callable[[str], None], *, by: str
) -> tuple[bool, list[Any]]:
    """Hand in the requests and show the runs until all have ended.

    ``say`` hears a message whenever something changes, and the last one at the end. Returns whether all is well, and
    the runs that have ended.
    """
    told: dict[UUID, str] = {}

    def tell(run: Any) -> None:
        told[run.id] = describe(run)
        say("\n".join(told.values()))

    ended: list[Any] = []
    with signals() as arm:
        runs = [client.submit(request) for request in requests]
        told |= {run: f"{request.workflow}: accepted as run {run}" for run, request in zip(runs, requests, strict=True)}
        say("\n".join(told.values()))
        try:
            arm()
            for run in runs:
                ended.append(_follow(client, run, tell))
                tell(ended[-1])
        except Signalled as signalled:
            going = [run for run in runs if run not in {one.id for one in ended}]
            if signalled.number == signal.SIGTERM:
                for run in going:
                    client.cancel(run, by)
                words = "cancel requested; the job on the cluster is ended too"
            else:
                words = "this script leaves, the run goes on"
            say("\n".join([*told.values(), *(f"run {run}: {words}" for run in going)]))
            return signalled.number == signal.SIGHUP, ended
    return all(str(run.state) == "done" for run in ended), ended


def _follow(client: Client, run: UUID, tell: Callable[[Any], None]) -> Any:
    """Wait for a run's end, also while the log cannot be read for a time: the run goes on in another process."""
    while True:
        try:
            return client.wait(run, tell)
        except Exception as error:
            if not isinstance(classify(error), Transient):
                raise
            print(f"run {run} cannot be watched now ({type(error).__name__}); looking again", file=sys.stderr)
            time.sleep(RETRY)


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
        return f"{name}: done; {made_text(run.report.get('made') or {})}"
    job = f" (SLURM job {run.job_ids[-1]})" if run.job_ids else ""
    return f"{name}: {state}{job}"


_WORDS = {"Image": "images", "Roi": "ROIs", "Table": "tables", "File": "attachments", "Dataset": "datasets"}


def made_text(counts: Mapping[str, int]) -> str:
    """What was made, in words: ``2 images, 315 ROIs, 1 table``."""
    said = []
    for kind in ("Image", "Roi", "Table", "File"):
        if count := counts.get(kind, 0):
            said.append(f"{count} {_WORDS[kind] if count != 1 else _WORDS[kind].removesuffix('s')}")
    return ", ".join(said) or "nothing was made"


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
