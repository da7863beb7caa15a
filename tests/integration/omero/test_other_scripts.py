"""The scripts about runs, data and administration, on a server.

Two run on our Processor. The others run in this process in a session of the server, because most of the time of a
script is the start of its interpreter.
"""

import runpy
import threading
from pathlib import Path

import numpy as np
import omero.clients  # loads omero-py in the order that it needs
import omero.model
import pytest
from omero.rtypes import rbool, rint, rlist, rlong, rstring, unwrap

from biomero import SlurmClient
from biomeroworker.domain.request import RunRequest
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.runlog import RunLog
from biomeroworker.node import attach
from biomeroworker.omero.connection.session import OmeroSession
from biomeroworker.omero.importing.annotations import annotation_link
from tests.integration.omero.omero_objects import make_dataset, make_group, make_image, make_person
from tests.integration.omero.script_jobs import final_status

SCRIPTS = Path(__file__).parents[3] / "scripts"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a worker with an unreachable cluster."""
    folder = tmp_path_factory.mktemp("worker")
    (folder / "slurm-config.ini").write_text(
        f"[SSH]\nhost = nowhere.invalid\n[ANALYTICS]\nsqlalchemy_url = sqlite:///{folder}/log.sqlite\n"
        f"[WORKER]\nwork_folder = {folder}/work\n"
    )
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("BIOMERO_CONFIG", str(folder / "slurm-config.ini"))
        environment.delenv("SQLALCHEMY_URL", raising=False)
        yield folder


@pytest.fixture(scope="module")
def log(folder):
    with RunLog.open(f"sqlite:///{folder}/log.sqlite") as log:
        yield log


@pytest.fixture(scope="module")
def people(server):
    """Two users of one group."""
    group = make_group(server, "rwra--")
    return [make_person(server, group) for _ in range(2)]


@pytest.fixture(scope="module")
def session(server, people):
    """A session of the first user."""
    with person_session(server, people[0]) as session:
        yield session


@pytest.fixture(scope="module")
def launch(server, people, session, folder):
    """Start a script of the first user on a Processor, with inputs."""
    stop, ready, uploaded = threading.Event(), threading.Event(), {}
    thread = threading.Thread(
        target=attach.serve,
        args=(lambda: person_session(server, people[0]), stop),
        kwargs={"ready": lambda session: ready.set()},
        daemon=True,
    )
    thread.start()
    assert ready.wait(60)

    def launch(name, **inputs):
        service = session.sf.getScriptService()
        if name not in uploaded:
            uploaded[name] = service.uploadScript(f"/test/{name}", (SCRIPTS / name).read_text())
        return uploaded[name], service.runScript(uploaded[name], inputs, rint(20))

    yield launch
    stop.set()
    thread.join(60)


def end_of(session, launched):
    """Whether a script succeeded, and its message."""
    _, process = launched
    status = final_status(session, process)
    process.poll()
    message = unwrap(process.getResults(0).get("Message"))
    process.close(False)
    return status == "Finished", message


@pytest.fixture
def run_here(server, tmp_path, monkeypatch):
    """Run a script in this process, as a person or root; returns whether it succeeded, its message and its outputs."""

    def run_here(person, name, **inputs):
        with server.root() if person is None else person_session(server, person) as session:
            number, config = session.client.getSessionId(), tmp_path / "script.config"
            router = session.client.getProperty("Ice.Default.Router")
            config.write_text(f"omero.user={number}\nomero.pass={number}\nIce.Default.Router={router}\n")
            monkeypatch.setenv("ICE_CONFIG", str(config))
            for key, value in inputs.items():
                session.client.setInput(key, value)
            try:
                runpy.run_path(str(SCRIPTS / name), run_name="__main__")
            except SystemExit as end:
                succeeded = not end.code
            else:
                succeeded = True
            outputs = session.sf.getSessionService().getOutputs(number)
            return succeeded, unwrap(outputs.get("Message")), outputs

    return run_here


def person_session(server, person):
    return OmeroSession.login(server.host, server.port, person.name, person.password)


def accept(log, person):
    request = RunRequest(workflow="nuclei", source="omero", inputs={"type": "Image", "ids": [1]}, user=person.id)
    return log.accept(
        request.model_dump(mode="json"), name="nuclei", description="", user=person.id, group=person.group
    )


def test_a_user_cancels_and_repeats_the_own_runs_on_a_processor(log, people, session, launch):
    running, failed, foreign = (accept(log, person) for person in (people[0], people[0], people[1]))
    log.fail(failed, {"message": "on purpose"})

    cancel = launch("workflows/Cancel_Run.py", Run_ID=rstring(str(running)[:8]))
    retry = launch("workflows/Retry_Run.py", Run_ID=rstring(str(failed)), Detach=rbool(True))
    dialog = session.sf.getScriptService().getParams(cancel[0])
    choices = {choice[:8] for choice in unwrap(dialog.inputs["Run"].values)}
    assert {str(running)[:8], str(failed)[:8]} <= choices
    assert str(foreign)[:8] not in choices

    succeeded, message = end_of(session, cancel)
    assert succeeded, message
    assert "No job is submitted" in message
    assert log.run(running).cancelled_by == f"{people[0].name} in OMERO"
    succeeded, message = end_of(session, retry)
    assert succeeded, message
    (repeated,) = [run for run in map(log.run, log.unfinished()) if run.recorded_request.retry_of == str(failed)]
    assert str(repeated.id) in message
    assert not log.run(foreign).cancel_requested


def test_a_user_resumes_the_own_runs_and_no_others(log, people, run_here):
    paused, foreign = (accept(log, person) for person in people)
    for run in (paused, foreign):
        log.pause(run, "the disk is full", RunState.ACCEPTED)
    succeeded, message, _ = run_here(people[0], "workflows/Resume_Run.py", Run_ID=rstring(str(paused)))
    assert succeeded
    assert "the disk is full" in message
    assert not log.run(paused).paused
    for script in ("workflows/Resume_Run.py", "workflows/Cancel_Run.py"):
        succeeded, message, _ = run_here(people[0], script, Run_ID=rstring(str(foreign)))
        assert not succeeded
        assert "belongs to another user" in message
    assert log.run(foreign).paused
    assert not log.run(foreign).cancel_requested


ADMIN_SCRIPTS = ("SLURM_Init_environment.py", "SLURM_check_setup.py", "Tail_logs.py")


@pytest.mark.parametrize("name", ADMIN_SCRIPTS)
def test_a_script_for_administrators_refuses_a_user(name, folder, people, run_here):
    succeeded, message, _ = run_here(people[0], f"admin/{name}")
    assert not succeeded
    assert "only administrators of OMERO may run" in message


def test_an_administrator_sees_the_log_of_the_node_without_secrets(folder, run_here, tmp_path, monkeypatch):
    monkeypatch.setenv("OMERODIR", str(tmp_path))
    monkeypatch.delenv("OMERO_SERVER_FOLDER", raising=False)
    (tmp_path / "var/log").mkdir(parents=True)
    lines = [f"line {number}" for number in range(100)]
    (tmp_path / "var/log/Processor-0.log").write_text("\n".join([*lines, "password = hunter2-hunter2"]) + "\n")
    succeeded, message, _ = run_here(None, "admin/Tail_logs.py", Tail_Lines=rlong(5))
    assert succeeded
    assert message.splitlines()[1:] == [*lines[-4:], "password = ***"]
    succeeded, message, _ = run_here(None, "admin/Tail_logs.py", Log_Path=rstring("/etc/passwd"))
    assert not succeeded
    assert "passwd is not a log" in message


def test_an_administrator_sees_each_problem_and_what_to_change(folder, run_here):
    succeeded, message, _ = run_here(None, "admin/SLURM_check_setup.py")
    assert succeeded
    assert "fail ssh: " in message
    assert "[SSH] host" in message
    succeeded, message, _ = run_here(None, "admin/SLURM_Init_environment.py", **{"Init Slurm": rbool(True)})
    assert not succeeded
    assert "nowhere.invalid" in message


def test_label_images_become_rois_on_their_images(folder, people, session, run_here):
    values = np.zeros((1, 1, 1, 16, 16), "uint16")
    values[0, 0, 0, 2:5, 2:6], values[0, 0, 0, 8:12, 8:12] = 3, 7
    dataset = make_dataset(session)
    cell, twin, other = (make_image(session, name, values * 0, dataset=dataset) for name in ("a.tif", "b.tif", "b.tif"))
    label = make_image(session, "a_mask.tif", values, dataset=dataset)
    make_image(session, "b_mask.tif", values, dataset=dataset)
    inputs = {"Data_Type": rstring("Dataset"), "IDs": rlist([rlong(dataset)]), "Label_Suffix": rstring("_mask")}
    for _ in range(2):  # a repeated script draws nothing twice
        succeeded, message, _ = run_here(people[0], "workflows/Labels2Rois.py", **inputs)
        assert succeeded
        assert "2 ROIs are on 1 images" in message
        assert "b_mask.tif: 2 images have this name" in message
    rows = session.rows("select r.image.id, r.name from Roi r where r.image.id in (:ids)", ids=[cell, twin, other])
    assert sorted(rows) == [[cell, "a_mask 3"], [cell, "a_mask 7"]]

    explicit = {
        "Mapping_Mode": rstring("Explicit Image IDs"),
        "Label_Image_IDs": rlist([rlong(label)]),
        "Target_Image_IDs": rlist([rlong(cell)]),
        "ROI_type": rstring("Mask"),
        "ROI_Name_Prefix": rstring("nuclei__run"),
        "Clear_Existing_ROIs": rbool(True),
        "Clear_ROI_Filter": rstring(""),
        "Delete_Label_Image": rbool(True),
    }
    succeeded, message, _ = run_here(people[0], "workflows/Labels2Rois.py", **explicit)
    assert succeeded, message
    rows = session.rows("select r.name, s.class from Roi r join r.shapes s where r.image.id = :id", id=cell)
    assert sorted(name for name, _ in rows) == ["nuclei__run 3", "nuclei__run 7"]
    assert not session.rows("select i.id from Image i where i.id = :id", id=label)


def test_a_user_does_the_steps_of_a_run_one_by_one(site, people, session, run_here, tmp_path, monkeypatch):
    monkeypatch.setenv("BIOMERO_CONFIG", str(site.config))
    monkeypatch.delenv("SQLALCHEMY_URL", raising=False)
    ada, bob = people
    dataset = make_dataset(session)
    image = make_image(session, "cell.tif", np.zeros((1, 1, 1, 16, 16), "uint16"), dataset=dataset)
    name = f"steps-{dataset}-{ada.name}"
    selection = {"Data_Type": rstring("Dataset"), "IDs": rlist([rlong(dataset)]), "Folder_Name": rstring(name)}
    succeeded, message, _ = run_here(ada, "data/_SLURM_Image_Transfer.py", **selection)
    assert succeeded, message
    attached = attach_file(session, dataset, tmp_path, "model.txt")
    inputs = {"Annotation_ID": rlong(attached), "Folder_Name": rstring(name), "Param_Slot": rstring("p1")}
    succeeded, message, outputs = run_here(ada, "data/_SLURM_File_Transfer.py", **inputs)
    assert succeeded, message
    transport = site.deployment.cluster.transport
    assert transport.read_from(unwrap(outputs["Slurm_Path"])) == b"weights"
    foreign = {"Input data": rstring(name), "Target format": rstring("tiff")}
    succeeded, message, _ = run_here(bob, "data/SLURM_Remote_Conversion.py", **foreign)
    assert not succeeded
    assert "belongs to another user" in message

    with SlurmClient.from_config(str(site.config)) as client:
        run = client.workflowTracker.initiate_workflow("obedient", "obedient v1.0.0", ada.id, ada.group)
        job = client.run_workflow_job("obedient", "v1.0.0", name, wf_id=run, labels=True, write=False)
        assert job.ok, job.get_error()
        job.slurm_polling_interval = 0.3
        assert job.wait_for_completion(client) == "COMPLETED"
    number = rstring(str(job.job_id))
    succeeded, message, _ = run_here(ada, "data/SLURM_Get_Update.py", **{"SLURM Job Id": number})
    assert succeeded, message
    assert f"SLURM job {job.job_id}: COMPLETED" in message
    assert "37% done" in message
    wanted = {
        "SLURM Job Id": number,
        "Output - Add as new images in NEW dataset": rbool(True),
        "New Dataset": rstring(f"results of {name}"),
        "Output - Add csv files as OMERO.table": rbool(True),
        "Create_ROIs": rbool(True),
    }
    succeeded, message, _ = run_here(bob, "data/SLURM_Get_Results.py", **wanted)
    assert not succeeded
    assert "not recorded as yours" in message
    succeeded, message, outputs = run_here(ada, "data/SLURM_Import_Results.py", **wanted)
    assert succeeded, message
    assert unwrap(outputs["Workflow_UUID"]) == str(run)
    made = session.rows(
        "select i.name from Image i join i.datasetLinks l where l.parent.name = :name", name=f"results of {name}"
    )
    assert made == [["cell_mask"]]
    assert len(session.rows("select r.id from Roi r where r.image.id = :image", image=image)) == 2


def attach_file(session, dataset, folder, name):
    """A file with the content ``weights`` that is attached to a dataset; returns the annotation's id."""
    (folder / name).write_text("weights")
    annotation = omero.model.FileAnnotationI()
    annotation.file = omero.model.OriginalFileI(session.client.upload(str(folder / name)).id.val, False)
    (annotation,) = session.save_and_return([annotation])
    session.save([annotation_link("Dataset", dataset, omero.model.FileAnnotationI(annotation.id.val, False))])
    return annotation.id.val
