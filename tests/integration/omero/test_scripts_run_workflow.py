"""The script that OMERO.web shows, uploaded to a server and run by our Processor, with a real run log."""

import json
import threading
import time
from pathlib import Path
from uuid import UUID

import omero.clients  # noqa: F401  loads omero-py in the order that it needs
import pytest
from omero.rtypes import rbool, rint, rlist, rlong, rstring, unwrap

from biomeroworker.eventlog.runlog import RunLog
from biomeroworker.node import attach
from biomeroworker.omero.connection.session import OmeroSession
from tests.integration.omero.omero_objects import make_dataset, make_image, noise

SCRIPT = Path(__file__).parents[3] / "scripts/workflows/SLURM_Run_Workflow.py"
DESCRIPTOR = {
    "name": "Nuclei",
    "description": "Finds nuclei",
    "schema-version": "cytomine-0.1",
    "container-image": {"image": "lab/nuclei:v1.0.0", "type": "singularity"},
    "command-line": "python wrapper.py [DIAMETER]",
    "inputs": [
        {
            "id": "diameter",
            "value-key": "@ID",
            "command-line-flag": "--@id",
            "name": "Diameter",
            "description": "of a nucleus",
            "type": "Number",
            "default-value": 12,
            "optional": True,
        }
    ],
}


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """A worker's configuration with an unreachable cluster; returns its event log."""
    (tmp_path / "nuclei").mkdir()
    (tmp_path / "nuclei/descriptor.json").write_text(json.dumps(DESCRIPTOR))
    url = f"sqlite:///{tmp_path}/log.sqlite"
    (tmp_path / "slurm-config.ini").write_text(
        f"[SSH]\nhost = nowhere.invalid\n[ANALYTICS]\nsqlalchemy_url = {url}\n[WORKER]\nwork_folder = {tmp_path}/work\n"
        f"[WORKFLOWS]\nnuclei = nuclei\nnuclei_repo = {tmp_path}/nuclei\nnuclei_accepts = channels: 1\n"
        f"broken = broken\nbroken_repo = {tmp_path}/no-such-thing\n"
    )
    monkeypatch.setenv("BIOMERO_CONFIG", str(tmp_path / "slurm-config.ini"))
    monkeypatch.delenv("SQLALCHEMY_URL", raising=False)
    log = RunLog.open(url)
    yield log
    log.close()


@pytest.fixture
def script(server, person, session, worker):
    """The script's id on the server, while a Processor serves it."""
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(
        target=attach.serve,
        args=(lambda: OmeroSession.login(server.host, server.port, person.name, person.password), stop),
        kwargs={"ready": lambda session: ready.set()},
    )
    thread.start()
    try:
        assert ready.wait(20)
        yield session.sf.getScriptService().uploadScript("/test/SLURM_Run_Workflow.py", SCRIPT.read_text())
    finally:
        stop.set()
        thread.join(30)


@pytest.fixture
def dataset(session):
    """A dataset with one image."""
    dataset = make_dataset(session)
    make_image(session, "one", noise(1, 1, 1, 9, 9), dataset=dataset)
    return dataset


def start(session, script, dataset, **inputs):
    given = {"Data_Type": rstring("Dataset"), "IDs": rlist([rlong(dataset)]), **inputs}
    return session.sf.getScriptService().runScript(script, given, rint(15))


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.2)
    return found


def accepted(log) -> UUID:
    return until(log.unfinished)[0]


def ended(session, process):
    job = process.getJob().id.val
    query = "select s.value from Job j join j.status s where j.id = :id"
    status = until(lambda: (found := session.rows(query, id=job)[0][0]) in ("Finished", "Error", "Cancelled") and found)
    process.poll()
    return status, unwrap(process.getResults(0).get("Message"))


def test_the_dialog_names_the_workflows_and_the_problems_of_the_others(session, script):
    started = time.monotonic()
    params = session.sf.getScriptService().getParams(script)
    assert time.monotonic() - started < 15  # starts a new interpreter on a busy machine
    assert params.name == "Slurm Workflow"
    assert {"IDs", "Data_Type", "nuclei", "nuclei_Version", "nuclei_|_diameter"} <= set(params.inputs)
    assert "broken" not in params.inputs
    assert "broken: " in params.description


def test_a_dialog_that_was_open_before_opens_at_once_though_the_cluster_cannot_be_reached(session, script):
    service = session.sf.getScriptService()
    seconds = []
    for _ in range(5):
        started = time.monotonic()
        service.getParams(script)
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 0.3, seconds  # from the node's cache; the shortest, because other programs use the machine


def test_a_run_is_accepted_with_the_whole_request_and_its_failure_fails_the_script(
    session, person, script, worker, dataset
):
    process = start(session, script, dataset, nuclei=rbool(True), **{"nuclei_|_diameter": rint(9)})
    run_id = accepted(worker)
    run = worker.run(run_id)
    assert run.request["inputs"] == {"type": "Dataset", "ids": [dataset]}
    assert run.request["parameters"] == {"diameter": 9}
    assert (run.request["user"], run.request["group"]) == (person.id, person.group)
    report = {
        "stage": "accepted",
        "kind": "permanent",
        "message": "OMERO has no dataset 7",
        "detail": "",
        "next_step": "look",
    }
    worker.fail(run_id, report)
    status, message = ended(session, process)
    assert status == "Error"
    for word in ("OMERO has no dataset 7", "accepted", "look"):
        assert word in message
    process.close(False)


def test_a_cancel_in_omero_is_a_recorded_cancel_request(session, person, script, worker, dataset):
    process = start(session, script, dataset, nuclei=rbool(True))
    run_id = accepted(worker)
    process.cancel()
    status, message = ended(session, process)
    assert status == "Cancelled"
    run = worker.run(run_id)
    assert run.cancel_requested
    assert person.name in run.cancelled_by
    assert "cancel requested" in message
    process.close(False)


def test_without_a_selected_workflow_no_run_is_accepted_and_the_message_names_the_option(
    session, script, worker, dataset
):
    process = start(session, script, dataset)
    status, message = ended(session, process)
    assert status == "Error"
    assert "nuclei" in message
    assert not worker.unfinished()
    process.close(False)


def test_an_image_that_the_workflow_does_not_accept_is_refused_before_a_run_is_accepted(
    session, script, worker, dataset
):
    image = make_image(session, "colors", noise(1, 3, 1, 9, 9), dataset=dataset)
    process = start(session, script, dataset, nuclei=rbool(True))
    status, message = ended(session, process)
    assert status == "Error"
    assert f"channels: 1, but colors (image-{image}) has 3 channels; choose other images" in message
    assert not worker.runs(), "nothing was recorded"
    process.close(False)
