"""How many scripts run at once, and in which order the others start."""

from biomeroworker.node.script_queue import ScriptQueue


def queue_of(limit, *scripts):
    queue = ScriptQueue(lambda: limit[0])
    for script in scripts:
        queue.add(script)
    return queue


def test_further_scripts_wait_and_start_in_the_order_in_which_they_came():
    queue = queue_of([2], *"abcd")
    assert queue.take() == ["a", "b"]
    assert queue.take() == []
    assert queue.waiting() == ["c", "d"]
    assert queue.ended("b")
    assert queue.take() == ["c"]
    assert queue.running() == ["a", "c"]


def test_a_higher_limit_counts_at_once_and_a_lower_one_ends_nothing():
    limit = [1]
    queue = queue_of(limit, *"abcd")
    queue.take()
    limit[0] = 3
    assert queue.take() == ["b", "c"]
    limit[0] = 1
    assert queue.take() == []
    assert queue.running() == ["a", "b", "c"]


def test_a_waiting_script_is_withdrawn_once_and_a_running_one_not():
    queue = queue_of([1], *"abc")
    queue.take()
    assert not queue.withdraw("a")
    assert queue.withdraw("b")
    assert not queue.withdraw("b")
    assert queue.ended("a")
    assert not queue.ended("a")
    assert queue.take() == ["c"]
