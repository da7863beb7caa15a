"""The script that shows a run: its messages, and the effect of signals on it (a real process)."""

import signal
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace
from uuid import uuid4

import pytest
from sqlalchemy.exc import OperationalError

from biomeroworker.domain.request import RunRequest
from biomeroworker.omero.scripts import follow

REQUEST = RunRequest(workflow="nuclei", source="omero", inputs={"type": "Image", "ids": [1]})


def run(state, **more):
    default = {"name": "nuclei", "report": {}, "job_ids": [], "paused": False, "outcomes": {}, "id": uuid4()}
    return SimpleNamespace(state=state, **(default | more))


class Client:
    def __init__(self, *states):
        self.states, self.cancelled = states, []

    def submit(self, request):
        self.id = uuid4()
        return self.id

    def wait(self, run_id, on_progress=None, timeout=None):
        for state in self.states[:-1]:
            on_progress(run(state, id=run_id))
        return run(self.states[-1], id=run_id, report={"made": {"Image": 1, "Roi": 12}})


def test_every_step_is_reported_and_the_end_with_its_outputs():
    messages = []
    well, ended = follow.submit_and_follow(Client("exporting", "running", "done"), [REQUEST], messages.append, by="ann")
    assert well
    assert len(ended) == 1
    assert "exporting" in messages[1]
    assert messages[-1].startswith("Made 1 image, 12 ROIs. nuclei is done. Run ")


@pytest.mark.parametrize("state", ["failed", "cancelled", "importing"])
def test_any_other_end_is_not_well(state):
    assert not follow.submit_and_follow(Client(state), [REQUEST], lambda message: None, by="ann")[0]


def test_a_database_that_is_away_for_a_time_does_not_end_the_watching(monkeypatch):
    monkeypatch.setattr(follow, "RETRY_SECONDS", 0.01)
    client = Client("running", "done")
    whole, tries = client.wait, []

    def wait(*arguments):
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("select", {}, Exception("server closed the connection"))
        return whole(*arguments)

    client.wait = wait
    assert follow.submit_and_follow(client, [REQUEST], lambda message: None, by="ann")[0]
    assert len(tries) == 3


def test_a_defect_is_not_watched_for_ever():
    client = Client("done")
    client.wait = lambda *arguments: {}["no"]
    with pytest.raises(KeyError):
        follow.submit_and_follow(client, [REQUEST], lambda message: None, by="ann")


SCRIPT = textwrap.dedent("""
    import sys, time, uuid
    from biomeroworker.omero.scripts import follow
    from biomeroworker.domain.request import RunRequest
    class Client:
        def submit(self, request):
            print("submitting", flush=True); time.sleep(0.5); return uuid.uuid4()
        def wait(self, run, on_progress=None, timeout=None):
            print("waiting", flush=True); time.sleep(30)
        def cancel(self, run, by): print("cancel by", by, flush=True)
    request = RunRequest(workflow="w", source="omero", inputs={})
    well, _ = follow.submit_and_follow(Client(), [request], lambda m: print(m, flush=True), by="ann")
    sys.exit(0 if well else 1)
""")


@pytest.mark.parametrize(
    ("when", "number", "code", "words", "absent"),
    [
        ("waiting", signal.SIGTERM, 1, "cancel by ann", "the run continues"),
        ("submitting", signal.SIGTERM, 1, "cancel by ann", "the run continues"),
        ("waiting", signal.SIGHUP, 0, "the run continues", "cancel by"),
        ("submitting", signal.SIGHUP, 0, "the run continues", "cancel by"),
    ],
)
def test_sigterm_is_a_cancel_and_sighup_is_not_even_while_the_run_is_handed_in(when, number, code, words, absent):
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True) as script:
        seen = ""
        end = time.monotonic() + 30
        while when not in seen and time.monotonic() < end:
            seen += script.stdout.readline()
        script.send_signal(number)
        rest, _ = script.communicate(timeout=20)
        assert script.returncode == code
        assert words in rest
        assert absent not in rest
