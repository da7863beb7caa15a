"""Rows of jobs: what the server writes into them, and what a handle may change."""

import omero
import omero.clients  # before other parts of omero
import omero.model
import pytest
from omero.rtypes import rstring, rtime

from omero_stand_in.server import Server, initialize
from omero_stand_in.services import jobs


@pytest.fixture
def server(tmp_path):
    communicator = initialize()
    server = Server(communicator, tmp_path)
    yield server
    server.stop()
    communicator.destroy()


@pytest.fixture
def call(server):
    return server.root_call(0)


@pytest.fixture
def handle(server, call):
    return jobs.JobHandleService(server, call.session)


def test_a_new_job_is_submitted_now_by_the_caller(call, handle):
    handle.submit(call, omero.model.ScriptJobI())
    job = handle.getJob(call)
    assert (job.status.value.val, job.username.val, job.groupname.val) == ("Submitted", "root", "system")
    assert job.submitted.val == pytest.approx(jobs.now(), abs=5000)
    assert job.started is None
    assert job.finished is None


def test_times_and_names_that_a_client_sets_are_ignored(call, handle):
    job = omero.model.ScriptJobI()
    job.username, job.started = rstring("ada"), rtime(1000)
    handle.submit(call, job)
    stored = handle.getJob(call)
    assert stored.username.val == "root"
    assert stored.started is None


def test_a_client_may_not_submit_a_finished_job(call, handle):
    job = omero.model.ScriptJobI()
    job.status = omero.model.JobStatusI()
    job.status.value = rstring("Finished")
    with pytest.raises(omero.ApiUsageException, match="Currently only SUBMITTED and WAITING"):
        handle.submit(call, job)


def test_running_sets_the_start_and_every_end_the_end(call, handle):
    handle.submit(call, omero.model.ScriptJobI())
    assert handle.setStatus(call, "Running") == "Submitted"
    assert handle.getJob(call).started is not None
    assert handle.jobRunning(call)
    assert handle.setStatus(call, "Cancelled") == "Running"
    assert handle.jobFinished(call) is not None


def test_the_end_remains_when_a_job_goes_back_to_running(call, handle):
    handle.submit(call, omero.model.ScriptJobI())
    handle.setStatus(call, "Finished")
    handle.setStatus(call, "Running")
    assert handle.jobFinished(call) is not None


@pytest.mark.parametrize("word", ["Waiting", "Queued", "Submitted", "Requeued", "Resubmitted"])
def test_statuses_of_the_beginning_cannot_be_set(call, handle, word):
    handle.submit(call, omero.model.ScriptJobI())
    with pytest.raises(omero.ValidationException, match=f"Currently unsupported: {word}"):
        handle.setStatus(call, word)


def test_an_unknown_status_is_refused_and_changes_nothing(call, handle):
    handle.submit(call, omero.model.ScriptJobI())
    with pytest.raises(omero.ApiUsageException, match="enum does not exist"):
        handle.setStatus(call, "Done")
    assert handle.jobStatus(call).value.val == "Submitted"


def test_a_null_message_leaves_the_old_one(call, handle):
    handle.submit(call, omero.model.ScriptJobI())
    assert handle.setMessage(call, "halfway") == ""
    handle.setStatusAndMessage(call, "Running", None)
    assert handle.jobMessage(call) == "halfway"


def test_a_handle_without_a_job_is_refused(call, handle):
    with pytest.raises(omero.ApiUsageException, match="JobHandle not ready"):
        handle.jobStatus(call)


def test_an_unknown_job_cannot_be_attached_to(call, handle):
    with pytest.raises(omero.ApiUsageException, match="Unknown job:12345"):
        handle.attach(call, 12345)
