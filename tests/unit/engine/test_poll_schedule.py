"""One poll of each cluster for all of its jobs; failures are repeated with backoff, recorded once, and given up."""

from biomeroworker.config import Settings
from biomeroworker.engine.poll_schedule import PollSchedule
from biomeroworker.engine.steps.executor import RunExecutor
from biomeroworker.engine.supervisor import Supervisor
from biomeroworker.engine.timing import Timing
from biomeroworker.errors import Blocked, Transient
from biomeroworker.eventlog.runlog import RunLog

TIMING = Timing()


def poll(schedule, now):
    assert schedule.is_due(now)
    schedule.in_flight = True


def test_a_cluster_is_not_polled_while_a_poll_is_running():
    schedule = PollSchedule(15, TIMING)
    assert not schedule.is_due(0)
    poll(schedule, TIMING.first_poll_seconds)
    assert not schedule.is_due(1000)
    schedule.succeeded(1000, changed=True)
    assert schedule.is_due(1000 + TIMING.first_poll_seconds)


def test_the_interval_grows_without_news_and_is_short_for_a_new_job():
    schedule, now = PollSchedule(15, TIMING), 0.0
    schedule.is_due(now)
    for _ in range(10):
        now += 15
        poll(schedule, now)
        schedule.succeeded(now, changed=False)
    assert not schedule.is_due(now + 14)
    schedule.poll_soon(now)
    assert schedule.is_due(now + TIMING.first_poll_seconds)


def test_no_interval_is_longer_than_the_sites_poll_seconds():
    schedule = PollSchedule(0.5, TIMING)
    schedule.poll_soon(0.0)
    assert schedule.is_due(0.5)


def test_each_cluster_has_the_poll_seconds_of_its_own_section(tmp_path):
    config = tmp_path / "slurm-config.ini"
    config.write_text("[SLURM]\npoll_seconds = 20\n[SSH:far]\n[SLURM:far]\npoll_seconds = 60\n")
    with RunLog.open(f"sqlite:///{tmp_path}/log.sqlite") as log:
        executor = RunExecutor(log, {}, {}, Settings.load(config))
        assert [executor.poll_seconds(name) for name in ("", "far", "gone")] == [20, 60, 20]
        supervisor = Supervisor(log, executor)
        assert [supervisor._poll_schedule(name)._longest for name in ("", "far")] == [20, 60]


def test_the_first_failure_is_logged_and_polling_is_given_up_after_the_patience():
    schedule, fault = PollSchedule(15, TIMING), Transient("down")
    first = schedule.failed(100, fault, patience=3600)
    assert (first.should_log, first.give_up) == (True, False)
    second = schedule.failed(200, fault, patience=3600)
    assert (second.should_log, second.give_up) == (False, False)
    assert second.delay >= TIMING.first_retry_seconds
    last = schedule.failed(100 + 3601, fault, patience=3600)
    assert (last.should_log, last.give_up) == (True, True)


def test_a_fault_that_needs_a_person_is_given_up_at_once():
    todo = PollSchedule(15, TIMING).failed(100, Blocked("key refused"), patience=3600)
    assert (todo.should_log, todo.give_up) == (True, True)
