"""One question to each cluster for all of its jobs; silence is asked again, told once, and endured for so long."""

from biomeroworker.config import Settings
from biomeroworker.engine.poll_schedule import PollSchedule
from biomeroworker.engine.steps.executor import RunExecutor
from biomeroworker.engine.supervisor import Supervisor
from biomeroworker.engine.timing import Timing
from biomeroworker.errors import Blocked, Transient
from biomeroworker.eventlog.runlog import RunLog

TIMING = Timing()


def asked(question, now):
    assert question.is_due(now)
    question.in_flight = True


def test_nothing_is_asked_while_an_answer_is_waited_for():
    question = PollSchedule(15, TIMING)
    assert not question.is_due(0)
    asked(question, TIMING.first_poll_seconds)
    assert not question.is_due(1000)
    question.succeeded(1000, changed=True)
    assert question.is_due(1000 + TIMING.first_poll_seconds)


def test_it_is_asked_more_rarely_when_nothing_is_new_and_soon_for_a_new_job():
    question, now = PollSchedule(15, TIMING), 0.0
    question.is_due(now)
    for _ in range(10):
        now += 15
        asked(question, now)
        question.succeeded(now, changed=False)
    assert not question.is_due(now + 14)
    question.poll_soon(now)
    assert question.is_due(now + TIMING.first_poll_seconds)


def test_no_wait_is_longer_than_the_sites_not_even_that_for_a_new_job():
    question = PollSchedule(0.5, TIMING)
    question.poll_soon(0.0)
    assert question.is_due(0.5)


def test_each_cluster_is_asked_as_often_as_its_own_section_says(tmp_path):
    config = tmp_path / "slurm-config.ini"
    config.write_text("[SLURM]\npoll_seconds = 20\n[SSH:far]\n[SLURM:far]\npoll_seconds = 60\n")
    with RunLog.open(f"sqlite:///{tmp_path}/log.sqlite") as log:
        executor = RunExecutor(log, {}, {}, Settings.load(config))
        assert [executor.poll_seconds(name) for name in ("", "far", "gone")] == [20, 60, 20]
        supervisor = Supervisor(log, executor)
        assert [supervisor._poll_schedule(name)._longest for name in ("", "far")] == [20, 60]


def test_silence_is_told_when_it_begins_and_given_up_when_patience_is_over():
    question, silence = PollSchedule(15, TIMING), Transient("down")
    first = question.failed(100, silence, patience=3600)
    assert (first.should_log, first.give_up) == (True, False)
    second = question.failed(200, silence, patience=3600)
    assert (second.should_log, second.give_up) == (False, False)
    assert second.delay >= TIMING.first_retry_seconds
    last = question.failed(100 + 3601, silence, patience=3600)
    assert (last.should_log, last.give_up) == (True, True)


def test_what_does_not_pass_by_itself_is_not_waited_for():
    todo = PollSchedule(15, TIMING).failed(100, Blocked("key refused"), patience=3600)
    assert (todo.should_log, todo.give_up) == (True, True)
