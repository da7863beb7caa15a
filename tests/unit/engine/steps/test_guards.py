"""When a step stops early: a lost lease stops every step, a cancel every step but an import."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from biomeroworker.config import Settings
from biomeroworker.engine.steps.context import EngineContext, RunContext
from biomeroworker.engine.steps.guards import CancelToken, LeaseGuard, StepCancelled
from biomeroworker.engine.steps.leased_run import LeasedRun
from biomeroworker.eventlog.runlog import RunLog, RunState
from biomeroworker.eventlog.store.fence import LeaseLost
from tests.fakes.guards import unleased
from tests.log_steps import accept, bring_to

RUN = uuid4()


def test_a_lease_is_lost_when_its_term_ends_or_another_process_has_it() -> None:
    in_term = [True]
    lease = LeaseGuard(RUN, "holder", lambda: in_term[0])
    lease.check()
    in_term[0] = False
    with pytest.raises(LeaseLost):
        lease.check()
    in_term[0] = True
    lease.lose()
    with pytest.raises(LeaseLost):
        lease.check()


def test_a_cancel_interrupts_the_running_step_and_not_the_next_one() -> None:
    cancel = CancelToken(RUN)
    cancel.request()
    with pytest.raises(StepCancelled):
        cancel.check()
    cancel.reset()
    cancel.check()


@pytest.mark.parametrize("state", [state for state in RunState if not state.is_terminal])
def test_a_cancel_interrupts_every_step_but_an_import_and_a_lost_lease_all(tmp_path: Path, state: RunState) -> None:
    with RunLog.open(f"sqlite:///{tmp_path}/log.sqlite") as log:
        run_id = accept(log)
        bring_to(log, run_id, state)
        leased: LeasedRun = unleased(run_id)
        engine = EngineContext(log, {}, {}, Settings.load(environ={}))
        guard = RunContext(log.run(run_id), leased, engine).guard
        leased.cancel.request()
        if state is RunState.IMPORTING:
            guard.check()
        else:
            with pytest.raises(StepCancelled):
                guard.check()
        leased.lease.lose()
        with pytest.raises(LeaseLost):
            guard.check()
