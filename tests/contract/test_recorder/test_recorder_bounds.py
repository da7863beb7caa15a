"""Waits for PostgreSQL have time limits, and an aborted change is not recorded."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import create_engine, select, text

from biomeroworker.errors import Transient, classify
from biomeroworker.eventlog import database
from biomeroworker.eventlog.runlog import RunLog, RunState
from biomeroworker.eventlog.tables import TRACKING
from tests.log_steps import accept, bring_to

pytestmark = pytest.mark.sandbox


def test_a_lock_held_by_another_session_is_transient_and_nothing_is_recorded_twice(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(database.LIMITS, "lock_timeout", "500ms")
    other = create_engine(postgres_url)
    with RunLog.open(postgres_url) as log:
        run = accept(log)
        bring_to(log, run, RunState.EXPORTING)
        with other.begin() as keeper:
            keeper.execute(select(TRACKING).with_for_update())
            began = time.monotonic()
            with pytest.raises(Exception, match="lock timeout") as caught:
                log.fault(run, RunState.EXPORTING, attempt=0, kind="transient", message="x")
            assert time.monotonic() - began < 5
        assert isinstance(classify(caught.value), Transient)
        log.fault(run, RunState.EXPORTING, attempt=0, kind="transient", message="x")
        assert [event.name for event in log.events(run)].count("FaultMet") == 1
    other.dispose()


def test_sessions_have_time_limits_and_only_a_rebuild_has_longer_ones(postgres_url: str) -> None:
    with database.connect(postgres_url).connect() as connection:
        show = text("SHOW statement_timeout")
        with connection.begin():
            assert connection.execute(show).scalar_one() == "1min"
            database.allow_long(connection)
            assert connection.execute(show).scalar_one() == "1h"
        assert connection.execute(show).scalar_one() == "1min"
