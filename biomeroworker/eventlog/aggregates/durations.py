"""How long a run was in each state."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState


def time_in_states(history: Iterable[Any], until: datetime) -> dict[RunState, float]:
    """Seconds that a run spent in each state, in the order of the states; terminal states are left out.

    Parameters
    ----------
    history
        All events of the run, the first one first.
    until
        End of the time in the last state, unless that is terminal.
    """
    run: WorkflowRun | None = None
    seconds: dict[RunState, float] = {}
    since = until
    for event in history:
        if run is not None:
            # the clocks of two machines that executed it may differ
            passed = max(0.0, (event.timestamp - since).total_seconds())
            seconds[run.state] = seconds.get(run.state, 0.0) + passed
        run, since = event.mutate(run), event.timestamp
    if run is not None:
        seconds[run.state] = seconds.get(run.state, 0.0) + max(0.0, (until - since).total_seconds())
    return {state: round(seconds[state], 3) for state in RunState if state in seconds and not state.is_terminal}
