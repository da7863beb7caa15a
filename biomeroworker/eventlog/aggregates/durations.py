"""When a run was in each state, and for how long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState


@dataclass(frozen=True)
class Period:
    """A time that a run spent in one state without interruption."""

    state: RunState
    start: datetime
    seconds: float
    paused: bool = False


def periods(history: Iterable[Any], until: datetime) -> list[Period]:
    """The periods of a run, oldest first; terminal states are left out.

    Parameters
    ----------
    history
        All events of the run, the first one first.
    until
        End of the last period, unless the run has ended.
    """
    found: list[Period] = []
    for one in _between_events(history, until):
        last = found[-1] if found else None
        if last and (last.state, last.paused) == (one.state, one.paused):
            found[-1] = Period(last.state, last.start, last.seconds + one.seconds, last.paused)
        else:
            found.append(one)
    return [one for one in found if not one.state.is_terminal]


def time_in_states(history: Iterable[Any], until: datetime) -> dict[RunState, float]:
    """Seconds that a run spent in each state, in the order of the states; parameters as for `periods`."""
    seconds: dict[RunState, float] = {}
    for one in periods(history, until):
        seconds[one.state] = seconds.get(one.state, 0.0) + one.seconds
    return {state: round(seconds[state], 3) for state in RunState if state in seconds}


def _between_events(history: Iterable[Any], until: datetime) -> Iterator[Period]:
    run: WorkflowRun | None = None
    since = until
    for event in history:
        if run is not None:
            # the clocks of two machines that executed it may differ
            yield Period(run.state, since, max(0.0, (event.timestamp - since).total_seconds()), run.paused)
        run, since = event.mutate(run), event.timestamp
    if run is not None:
        yield Period(run.state, since, max(0.0, (until - since).total_seconds()), run.paused)
