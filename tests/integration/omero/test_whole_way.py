"""From a script in OMERO to results in OMERO: Processor, supervisor, cluster and container are all real.

The Processor is attached in user mode, so that the same test runs on an existing server.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from omero.rtypes import rbool, rint, rlist, rlong, rstring, unwrap

from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.omero.connection.session import OmeroSession
from biomeroworker.omero.importing import files
from tests.integration.omero.omero_objects import make_dataset, make_group, make_image, make_person

CHECKOUT = Path(__file__).parents[3]
PROGRAM = Path(sys.executable).with_name("biomeroworker")
HOSTILE_NAME = "a b [1];$(touch x).tif"


@pytest.fixture(scope="module")
def person(server):
    """The user of all these tests: a supervisor and a Processor take seconds to start."""
    return make_person(server, make_group(server, "rwra--"))


@pytest.fixture(scope="module")
def session(server, person):
    with OmeroSession.login(server.host, server.port, person.name, person.password) as session:
        yield session


@pytest.fixture(scope="module")
def worker(site, server, person, tmp_path_factory):
    """A supervisor, and a Processor that serves the person's own scripts; returns the folder of their logs."""
    folder = tmp_path_factory.mktemp("worker")
    common = {
        **os.environ,
        "BIOMERO_CONFIG": str(site.config),
        "OMERO_HOST": server.host,
        "OMERO_PORT": str(server.port),
    }
    commands = {
        "supervise": {**common, "OMERO_USER": "root", "OMERO_PASSWORD": server.password},
        "attach": {**common, "OMERO_USER": person.name, "OMERO_PASSWORD": person.password},
    }
    processes = []
    for name, environment in commands.items():
        with (folder / f"{name}.log").open("wb") as log:
            processes.append(
                subprocess.Popen([PROGRAM, name], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )
    yield folder
    for process in processes:
        process.terminate()
    for process in processes:  # ten seconds are promised; every moment of it is in tests/resilience
        assert process.wait(12) == 0, (folder / "supervise.log").read_text() + (folder / "attach.log").read_text()


@pytest.fixture(scope="module")
def script(session, worker):
    """The script, uploaded as the person's own as soon as the Processor is there to read its parameters."""
    return upload(session, worker, "SLURM_Run_Workflow.py")


def upload(session, worker, name):
    end = time.monotonic() + 60
    while "executing the scripts" not in (worker / "attach.log").read_text():
        assert time.monotonic() < end, (worker / "attach.log").read_text()
        time.sleep(0.2)
    text = (CHECKOUT / "scripts/workflows" / name).read_text()
    return session.sf.getScriptService().uploadScript(f"/test/{name}", text)


def launch(session, script, dataset, more=(), **parameters):
    """Start the script as OMERO.web does."""
    inputs = {
        "Data_Type": rstring("Dataset"),
        "IDs": rlist([rlong(dataset)]),
        "obedient": rbool(True),
        "obedient_Version": rstring("v1.0.0"),
        "3a) Import into NEW Dataset": rstring("what came of it"),
        **{f"obedient_|_{name}": value for name, value in parameters.items()},
        **dict(more),
    }
    return session.sf.getScriptService().runScript(script, inputs, rint(20))


def ended(process, seconds=90):
    end = time.monotonic() + seconds
    while (code := process.poll()) is None:
        assert time.monotonic() < end, "the script does not end"
        time.sleep(0.3)
    return code.val


def content(session, file):
    """The content of an original file, as text."""
    store = session.sf.createRawFileStore()
    try:
        store.setFileId(file.id.val)
        return store.read(0, file.size.val).decode()
    finally:
        store.close()


def run_of(site, dataset):
    """The run that was accepted for a dataset."""
    found = [site.deployment.log.run(run.id) for run in site.deployment.log.runs(limit=20)]
    return next(run for run in found if run.request and run.request["inputs"].get("ids") == [dataset])


def settled(site, run, seconds=120):
    """The run when it has ended; one that was paused while a neighbour's test restarted the grid is resumed."""
    end = time.monotonic() + seconds
    while not run.state.is_terminal and time.monotonic() < end:
        if run.paused:
            site.deployment.log.resume(run.id)
        time.sleep(1)
        run = site.deployment.log.run(run.id)
    assert run.state.is_terminal, [vars(fault) for fault in run.faults]
    return run


def test_a_dataset_gets_labels_rois_a_table_provenance_and_a_report(site, server, session, script, monkeypatch):
    dataset = make_dataset(session)
    image = make_image(
        session, HOSTILE_NAME, np.zeros((1, 1, 1, 16, 16), "uint16"), sizes={"x": 0.5, "y": 0.5}, dataset=dataset
    )
    process = launch(session, script, dataset, labels=rbool(True), write=rbool(False))
    assert ended(process) == 0
    given = process.getResults(0)
    process.close(False)
    run = settled(site, run_of(site, dataset))
    assert run.state is RunState.DONE, (run.report, run.faults)
    assert given["Message"].val.startswith("Made 1 image, 2 ROIs")
    assert "The images are in the dataset 'what came of it'" in given["Message"].val
    assert str(run.id) in given["Message"].val
    link = unwrap(given["URL"])
    assert link["type"] == "URL"
    assert link["href"].endswith(f"/webclient/?show=dataset-{given['Dataset'].val.id.val}")
    log = given["File_Annotation"].val
    assert log.file.mimetype.val == "text/plain"
    assert "37% done" in content(session, log.file)

    made = session.rows(
        "select i.id, i.name from Image i join i.datasetLinks l join l.parent d"
        " where d.name = :name and d.details.owner.id = :me",
        name="what came of it",
        me=session.user_id,
    )
    assert len(made) == 1
    assert made[0][1].startswith("a b [1];$(touch x)"), "the user's own name comes back"
    rois = session.rows("select r.id from Roi r where r.image.id = :image", image=image)
    assert len(rois) == 2, "one for each label, on the image that they were found in"
    tables = session.rows(
        "select f.name from DatasetAnnotationLink l join l.child a, FileAnnotation fa join fa.file f "
        "where l.parent.id = :dataset and fa.id = a.id",
        dataset=dataset,
    )
    assert tables
    marks = session.rows(
        "select a.id from ImageAnnotationLink l join l.child a where l.parent.id = :image and a.ns = :ns",
        image=made[0][0],
        ns="biomero/workflow",
    )
    assert marks, "the label image has the provenance annotation"

    attached = session.rows(
        "select a.id from DatasetAnnotationLink l, FileAnnotation a"
        " where l.child.id = a.id and l.parent.id = :dataset and a.ns = :ns",
        dataset=dataset,
        ns="biomero/workflow/report",
    )
    assert [f"FileAnnotation:{row[0]}" for row in attached] == [run.outcomes[RunState.IMPORTING]["report"]]
    login = {"HOST": server.host, "PORT": str(server.port), "USER": "root", "PASSWORD": server.password}
    for name, value in login.items():
        monkeypatch.setenv(f"OMERO_{name}", value)
    page = site.deployment.report(run.id).decode()
    assert "a b [1];$(touch x).tif" in page
    assert "data:image/jpeg;base64," in page, "the image with the outlines of its two objects"
    assert "2 objects in 1 image" in page
    assert f"Job {run.job_ids[0]}" in page


def test_a_batched_run_uses_an_attached_file(site, session, worker):
    script = upload(session, worker, "SLURM_Run_Workflow_Batched.py")
    dataset = make_dataset(session)
    for number in range(2):
        make_image(session, f"i{number}", np.zeros((1, 1, 1, 16, 16), "uint16"), dataset=dataset)
    number = files.upload_text(session, "weights of ann", "my model;$(touch x).txt", "a model", "")
    batches = {"Batch_Size": rint(1), "Cleanup?": rbool(False), "obedient_|_FILE_model": rlist([rlong(number)])}
    process = launch(session, script, dataset, batches)
    assert ended(process) == 0
    message = process.getResults(0)["Message"].val
    process.close(False)
    run = settled(site, run_of(site, dataset))
    assert run.state is RunState.DONE, (run.report, run.faults)
    assert run.chunks == 2
    assert f"Its folder on the cluster is not removed: {run.plan.folder}." in message
    results = session.query(
        "select f from DatasetAnnotationLink l join l.child a, FileAnnotation fa join fa.file f"
        " where l.parent.id = :dataset and fa.id = a.id and f.name like '%model.txt'",
        dataset=dataset,
    )
    assert [content(session, file) for file in results] == ["weights of ann"] * 2


def test_the_message_of_a_failure_has_stage_cause_and_next_step(site, session, script):
    dataset = make_dataset(session)
    make_image(session, "one", np.zeros((1, 1, 1, 16, 16), "uint16"), dataset=dataset)
    process = launch(session, script, dataset, exit=rint(3))
    assert ended(process) != 0
    message = process.getResults(0)["Message"].val
    process.close(False)
    for part in ("exit code 3", "failing on purpose", "retry"):
        assert part in message, message
    assert run_of(site, dataset).state is RunState.FAILED


def test_a_missing_dataset_is_refused_before_a_run_is_accepted(site, session, script):
    process = launch(session, script, 999999999)
    assert ended(process) != 0
    message = process.getResults(0)["Message"].val
    process.close(False)
    assert "OMERO has no dataset 999999999" in message
    with pytest.raises(StopIteration):
        run_of(site, 999999999)


def test_cancel_in_omero_cancels_the_job_too(site, session, script):
    dataset = make_dataset(session)
    make_image(session, "one", np.zeros((1, 1, 1, 16, 16), "uint16"), dataset=dataset)
    process = launch(session, script, dataset, sleep=rint(300))
    end = time.monotonic() + 60
    while (
        run := next((r for r in site.deployment.log.runs(limit=1)), None)
    ) is None or run.state is not RunState.RUNNING:
        assert time.monotonic() < end
        time.sleep(0.3)
    process.cancel()
    ended = site.deployment.wait(run.id, timeout=60)
    process.close(False)
    assert ended.state is RunState.CANCELLED
    assert site.jobs() == []
