from datetime import UTC, datetime, timedelta

import pytest

from biomeroworker.domain import backoff
from biomeroworker.engine.steps import retry_policy
from biomeroworker.engine.timing import Timing
from biomeroworker.errors import Blocked, Permanent, Transient

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BUDGET = timedelta(hours=6)


def decide(fault, *, failures=1, since=NOW, before_admission=False):
    return retry_policy.decide(
        fault,
        failures=failures,
        since=since,
        now=NOW,
        budget=BUDGET,
        before_admission=before_admission,
        timing=Timing(),
    )


def test_backoff_doubles_from_twenty_seconds_to_a_quarter_of_an_hour():
    delays = [backoff.backoff_delay(number, jitter=0) for number in range(1, 9)]
    assert delays == [20, 40, 80, 160, 320, 640, 900, 900]


def test_delays_have_jitter_so_that_runs_do_not_retry_at_the_same_moment():
    delays = {backoff.backoff_delay(1) for _ in range(50)}
    assert len(delays) > 40
    assert all(18 <= delay <= 22 for delay in delays)


def test_a_transient_fault_is_tried_again():
    assert isinstance(decide(Transient("link lost")), retry_policy.Retry)


def test_a_transient_fault_that_outlives_its_budget_pauses_the_run():
    late = decide(Transient("link lost"), failures=40, since=NOW - BUDGET - timedelta(seconds=1))
    assert late == retry_policy.Pause()


def test_a_blocked_run_waits_for_a_person():
    assert decide(Blocked("disk full")) == retry_policy.Pause()


def test_a_permanent_fault_ends_the_run():
    assert decide(Permanent("exit 3")) == retry_policy.End()


@pytest.mark.parametrize("fault", [Blocked("key refused"), Permanent("no such dataset")])
def test_before_admission_a_fault_that_needs_a_person_ends_the_run(fault):
    assert decide(fault, before_admission=True) == retry_policy.End()


def test_before_admission_a_cluster_that_is_down_ends_the_run_within_seconds():
    waited = 0.0
    for failures in range(1, 10):
        match decide(Transient("connection refused"), failures=failures, before_admission=True):
            case retry_policy.Retry(delay):
                waited += delay
            case end:
                assert end == retry_policy.End()
                break
    assert waited < 10
