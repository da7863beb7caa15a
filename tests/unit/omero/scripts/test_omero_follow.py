"""The script that shows runs, while the log is away at the wrong moment."""

import os
import signal
from types import SimpleNamespace
from uuid import uuid4

import pytest
from sqlalchemy.exc import OperationalError

from biomeroworker.domain.request import RunRequest
from biomeroworker.eventlog.aggregates.states import AlreadyEnded
from biomeroworker.omero.scripts import follow

AWAY = OperationalError("select", {}, Exception("server closed the connection"))


def request(name):
    return RunRequest(workflow=name, source="omero", inputs={"type": "Image", "ids": [1]})


class Client:
    """Takes requests; ``trouble`` maps a workflow to what its hand-in raises, ``faults`` is what cancels raise."""

    def __init__(self, *, trouble=None, faults=(), state="done"):
        self.trouble, self.faults, self.state = trouble or {}, list(faults), state
        self.runs, self.cancel_calls, self.cancelled = {}, 0, []

    def submit(self, request):
        if error := self.trouble.get(request.workflow):
            raise error
        run = uuid4()
        self.runs[run] = request.workflow
        return run

    def wait(self, run_id, on_progress=None, timeout=None):
        if self.state == "terminated":
            os.kill(os.getpid(), signal.SIGTERM)
        return SimpleNamespace(id=run_id, name=self.runs[run_id], state=self.state, report={}, job_ids=[], paused=False)

    def cancel(self, run_id, by):
        self.cancel_calls += 1
        if self.faults and (error := self.faults.pop(0)):
            raise error
        self.cancelled.append(run_id)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(follow, "RETRY_SECONDS", 0.01)


def shown(client, *names):
    messages = []
    well, ended = follow.submit_and_follow(client, [request(name) for name in names], messages.append, by="ann")
    return well, ended, messages


@pytest.mark.parametrize("broken", ["a", "b", "c"])
def test_what_was_accepted_is_shown_though_another_was_not(broken):
    client = Client(trouble={broken: AWAY})
    well, ended, messages = shown(client, "a", "b", "c")
    assert not well
    assert [one.name for one in ended] == [name for name in "abc" if name != broken]
    assert f"{broken} is NOT accepted" in messages[0]
    assert f"{broken} is NOT accepted" in messages[-1]
    assert messages[-1].count(" is done.") == 2


def test_nothing_accepted_is_an_error():
    with pytest.raises(OperationalError):
        shown(Client(trouble={"a": AWAY, "b": AWAY}), "a", "b")


def test_a_cancel_is_repeated_while_the_log_is_away():
    client = Client(faults=[AWAY, AWAY, AWAY], state="terminated")
    well, _, messages = shown(client, "a", "b")
    assert not well
    assert sorted(client.cancelled) == sorted(client.runs)
    assert messages[-1].count("cancel requested") == 2
    assert "NOT cancelled" not in messages[-1]


def test_a_cancel_that_could_not_be_recorded_within_the_grace_is_reported(monkeypatch):
    monkeypatch.setattr(follow, "GRACE_SECONDS", 0.1)
    client = Client(faults=[AWAY] * 1000, state="terminated")
    _, _, messages = shown(client, "a")
    assert client.cancel_calls > 1
    (run,) = client.runs
    assert f"run {run}: NOT cancelled" in messages[-1]
    assert f"biomeroworker cancel {run}" in messages[-1]


def test_a_run_that_ended_before_its_cancel_is_reported():
    _, _, messages = shown(Client(faults=[AlreadyEnded("done")], state="terminated"), "a")
    assert "had already ended" in messages[-1]


def test_detached_runs_are_accepted_and_not_followed():
    client = Client(trouble={"b": AWAY})
    client.wait = None  # calling it would be an error
    messages = []
    well, ended = follow.submit_and_follow(client, [request("a"), request("b")], messages.append, by="ann", detach=True)
    assert (well, ended) == (False, [])
    assert "a is accepted, and continues without this script" in messages[-1]
    assert "b is NOT accepted" in messages[-1]
    assert follow.submit_and_follow(Client(), [request("a")], messages.append, by="ann", detach=True) == (True, [])


def test_a_cancel_while_detached_runs_are_submitted_cancels_them():
    client = Client()
    submit = client.submit

    def submit_and_cancel(one):
        os.kill(os.getpid(), signal.SIGTERM)
        return submit(one)

    client.submit = submit_and_cancel
    messages = []
    well, _ = follow.submit_and_follow(client, [request("a")], messages.append, by="ann", detach=True)
    assert not well
    assert client.cancelled == list(client.runs)
