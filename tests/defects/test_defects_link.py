"""Defects of BIOMERO 2.8.3 with the connection to the cluster."""

from __future__ import annotations

import time

from biomeroworker.eventlog.aggregates.states import RunState
from tests.resilience import child
from tests.resilience.world import SLOW, World


@SLOW
def test_a_silent_connection_is_detected_and_the_run_continues(world: World) -> None:
    """No command had a timeout: a front-end that stopped answering was waited for without end.

    (The timeout of a real `ssh` is tested in ``tests/integration/cluster/test_openssh_faults.py``.)
    """
    run_id = world.accept(sleep=1.0)
    with child.running(world):
        world.await_run(run_id, 30, RunState.QUEUED, RunState.RUNNING)
        world.link("hole")
        started = time.monotonic()
        world.until(lambda: len(world.faults(run_id)) > 0)
        assert time.monotonic() - started < 60
        world.clear_faults()
        world.await_run(run_id)
    run = world.check(run_id)
    assert run.attempt == 1
    assert {fault.kind for fault in run.faults} == {"transient"}
