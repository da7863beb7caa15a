"""The report of a run that is done names the inputs without a result, and a rerun is offered for exactly these."""

from uuid import uuid4

import pytest

from biomeroworker.deployment import rerun
from biomeroworker.domain.manifest import Chunk, InputManifest, ResultFile, ResultManifest
from biomeroworker.engine.results import partial_report
from biomeroworker.errors import RequestRejected
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState
from tests.unit.engine.input_images import image

INPUTS = InputManifest(
    run="r", images=tuple(map(image, (1, 2, 3))), chunks=(Chunk(keys=("image-1", "image-2")), Chunk(keys=("image-3",)))
)
FAILED = [{"tasks": "1", "message": "exit code 3", "hint": "", "detail": "last words"}]


def test_the_report_of_a_partly_done_run_has_the_failed_inputs_and_the_next_step():
    report = partial_report.partial_report(FAILED, {}, INPUTS, "some-run")
    assert report["message"] == "1 of 3 images failed: exit code 3"
    assert report["failed"][0]["inputs"] == {"image-3": "n3"}
    assert report["next_step"].endswith("biomeroworker retry some-run --failed")
    assert partial_report.partial_report([], {}, INPUTS, "some-run") == {}


def results(*paths):
    return ResultManifest(run="r", attempt=1, files=[ResultFile(path=path, size=1, sha256="0") for path in paths])


def test_the_report_names_the_images_that_a_workflow_skipped_as_their_user_knows_them():
    one_job = INPUTS.model_copy(update={"chunks": ()})
    skipped = partial_report.skipped_inputs(one_job, results("image-2_mask.tif"), [])
    report = partial_report.partial_report([], skipped, one_job, "some-run")
    assert report["message"] == "2 of 3 images have no result: n1 (image-1), n3 (image-3)"
    assert report["skipped"] == {"image-1": "n1", "image-3": "n3"}
    assert "biomeroworker retry some-run --failed" in report["next_step"]
    assert "failed" not in report, "no task failed"


def test_an_image_of_a_failed_task_is_not_reported_as_skipped_too():
    skipped = partial_report.skipped_inputs(INPUTS, results("image-2_mask.tif"), [0])
    report = partial_report.partial_report(FAILED, skipped, INPUTS, "some-run")
    assert (report["skipped"], report["failed"][0]["inputs"]) == ({"image-1": "n1"}, {"image-3": "n3"})
    assert report["message"] == "1 of 3 images failed: exit code 3; 1 of 3 images has no result: n1 (image-1)"
    assert ended(RunState.DONE, report).without_result == {"image-1": "n1", "image-3": "n3"}


def test_a_task_that_skipped_all_of_its_images_is_noticed_although_it_wrote_a_table():
    written = results("image-3_mask.tif", "0000/summary.csv", "0001/summary.csv")
    assert set(partial_report.skipped_inputs(INPUTS, written, [0, 1])) == {"image-1", "image-2"}


def ended(state, report):
    run = WorkflowRun(name="n", description="d", user=1, group=2)
    run.accept({"workflow": "w", "source": "folder", "inputs": {"folder": "f"}, "batch_size": 2})
    run.end(state, report)
    return run


def test_a_rerun_of_failed_inputs_has_only_these_and_a_link_to_its_run():
    run = ended(RunState.DONE, partial_report.partial_report(FAILED, {}, INPUTS, str(uuid4())))
    request = rerun.build_rerun_request(run, failed=True)
    assert (request.only, request.retry_of, request.batch_size) == ({"image-3": "n3"}, str(run.id), 2)
    assert rerun.build_rerun_request(run).only == {}, "without --failed all of it"


def test_a_rerun_has_the_failed_and_the_skipped_inputs():
    run = ended(RunState.DONE, partial_report.partial_report(FAILED, {"image-1": "n1"}, INPUTS, str(uuid4())))
    assert rerun.build_rerun_request(run, failed=True).only == {"image-1": "n1", "image-3": "n3"}


def test_a_rerun_of_a_failed_run_has_all_inputs():
    assert rerun.build_rerun_request(ended(RunState.FAILED, {"message": "m"}), failed=True).only == {}


@pytest.mark.parametrize(
    ("state", "words"), [(RunState.DONE, "has no failed inputs"), (RunState.CANCELLED, "was cancelled")]
)
def test_a_rerun_without_failed_inputs_is_rejected(state, words):
    with pytest.raises(RequestRejected, match=words):
        rerun.build_rerun_request(ended(state, {}), failed=True)


def test_a_run_that_has_not_ended_cannot_be_rerun():
    run = WorkflowRun(name="n", description="d", user=1, group=2)
    run.accept({"workflow": "w"})
    with pytest.raises(RequestRejected, match="has not ended"):
        rerun.build_rerun_request(run, failed=True)
