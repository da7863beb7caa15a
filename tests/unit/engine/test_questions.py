"""One question to each cluster for all of its jobs; silence is asked again, told once, and endured for so long."""

from biomeroworker.engine import retry, watch
from biomeroworker.engine.questions import Question
from biomeroworker.errors import Blocked, Transient


def asked(question, now):
    assert question.is_due(now)
    question.is_asked = True


def test_nothing_is_asked_while_an_answer_is_waited_for():
    question = Question(15)
    assert not question.is_due(0)
    asked(question, watch.FIRST_INTERVAL)
    assert not question.is_due(1000)
    question.answered(1000, changed=True)
    assert question.is_due(1000 + watch.FIRST_INTERVAL)


def test_it_is_asked_more_rarely_when_nothing_is_new_and_soon_for_a_new_job():
    question, now = Question(15), 0.0
    question.is_due(now)
    for _ in range(10):
        now += 15
        asked(question, now)
        question.answered(now, changed=False)
    assert not question.is_due(now + 14)
    question.hurry(now)
    assert question.is_due(now + watch.FIRST_INTERVAL)


def test_silence_is_told_when_it_begins_and_given_up_when_patience_is_over():
    question, silence = Question(15), Transient("down")
    first = question.unanswered(100, silence, patience=3600)
    assert (first.told, first.over) == (True, False)
    second = question.unanswered(200, silence, patience=3600)
    assert (second.told, second.over) == (False, False)
    assert second.delay >= retry.FIRST_DELAY
    last = question.unanswered(100 + 3601, silence, patience=3600)
    assert (last.told, last.over) == (True, True)


def test_what_does_not_pass_by_itself_is_not_waited_for():
    todo = Question(15).unanswered(100, Blocked("key refused"), patience=3600)
    assert (todo.told, todo.over) == (True, True)
