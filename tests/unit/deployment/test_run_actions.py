"""Cancelling, resuming and repeating a run on behalf of a user."""

from uuid import uuid4

import pytest

from biomeroworker.deployment import run_actions
from biomeroworker.deployment.run_actions import Requester
from biomeroworker.domain.request import RunRequest
from biomeroworker.errors import RequestRejected
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.runlog import RunLog

ADA, BOB, ADMIN = Requester(7), Requester(8), Requester(0, is_admin=True)


@pytest.fixture
def log(tmp_path):
    with RunLog.open(f"sqlite:///{tmp_path}/log.sqlite") as log:
        yield log


def accept(log, user=ADA.user):
    request = RunRequest(workflow="nuclei", source="omero", inputs={"type": "Image", "ids": [1, 2]}, user=user)
    return log.accept(request.model_dump(mode="json"), name="nuclei", description="", user=user, group=3)


def test_a_run_is_found_by_the_start_of_its_id_by_its_owner_and_by_an_administrator(log):
    run = accept(log)
    for requester in (ADA, ADMIN):
        assert run_actions.find(log, str(run)[:8], requester).id == run
        assert run_actions.find(log, str(run), requester).id == run


def test_a_run_of_another_user_is_not_found_by_the_start_of_its_id_and_refused_by_its_whole_id(log):
    run = accept(log)
    with pytest.raises(RequestRejected, match="only your own runs"):
        run_actions.find(log, str(run)[:8], BOB)
    with pytest.raises(RequestRejected, match="belongs to another user"):
        run_actions.find(log, str(run), BOB)


def test_an_id_that_two_runs_start_with_is_refused(log):
    accept(log)
    accept(log)
    with pytest.raises(RequestRejected, match="2 runs have an ID"):
        run_actions.find(log, "", ADA)


def test_cancel_records_the_request_and_names_the_job(log):
    run = accept(log)
    log.intend(run, RunState.EXPORTING)
    log.begin_attempt(run, 1, f"biomero-{run}-1")
    log.intend(run, RunState.SUBMITTING, attempt=1)
    log.submitted(run, 1, 1234)
    assert "SLURM job 1234" in run_actions.cancel(log, log.run(run), "ada in OMERO")
    found = log.run(run)
    assert (found.cancel_requested, found.cancelled_by) == (True, "ada in OMERO")


def test_a_run_without_a_job_ends_without_one(log):
    run = accept(log)
    assert "No job is submitted" in run_actions.cancel(log, log.run(run), "ada")


def test_an_ended_run_is_not_cancelled(log):
    run = accept(log)
    log.fail(run, {"message": "on purpose"})
    with pytest.raises(RequestRejected, match="already ended: failed"):
        run_actions.cancel(log, log.run(run), "ada")


def test_a_run_that_another_program_recorded_is_not_cancelled(log):
    run = log.tracker.initiate_workflow("nuclei", "nuclei", ADA.user, 3)
    with pytest.raises(RequestRejected, match="recorded by another program"):
        run_actions.cancel(log, log.run(run), "ada")


def test_only_a_paused_run_is_resumed(log):
    run = accept(log)
    with pytest.raises(RequestRejected, match="not paused: its state is accepted"):
        run_actions.resume(log, log.run(run))
    log.pause(run, "the disk is full", RunState.ACCEPTED)
    assert "'accepted'" in run_actions.resume(log, log.run(run))
    assert not log.run(run).paused


def test_repeat_takes_the_failed_inputs_of_a_run_that_is_partly_done(log):
    run = accept(log)
    log.finish(run, failed=[{"inputs": {f"image-{n}": f"cell {n}" for n in range(7)}, "message": "no"}])
    request, inputs = run_actions.repeat(log.run(run), failed=True, switch="Only")
    assert request.retry_of == str(run)
    assert list(request.only) == [f"image-{n}" for n in range(7)]
    assert inputs.endswith("cell 3, cell 4 and 2 more.")


def test_a_run_without_failed_inputs_is_repeated_only_as_a_whole(log):
    run = accept(log)
    log.finish(run)
    with pytest.raises(RequestRejected, match="switch off 'Only'"):
        run_actions.repeat(log.run(run), failed=True, switch="Only")
    request, inputs = run_actions.repeat(log.run(run), failed=False, switch="Only")
    assert not request.only
    assert inputs.startswith("All inputs")


def test_a_cancelled_run_is_repeated_as_a_whole(log):
    run = accept(log)
    log.request_cancel(run, "ada")
    log.cancelled(run, {"stage": "accepted", "message": "cancelled"})
    request, _ = run_actions.repeat(log.run(run), failed=True, switch="Only")
    assert request.retry_of == str(run)
    assert not request.only


def test_an_unknown_run_is_an_error_with_its_id(log):
    run = uuid4()
    with pytest.raises(Exception, match=str(run)):
        run_actions.find(log, str(run), ADMIN)
