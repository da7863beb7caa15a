"""The messages of the scripts that run workflows."""

from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest

from biomeroworker.domain.plan import RunPlan
from biomeroworker.domain.request import RecordedRequest
from biomeroworker.omero.scripts import messages

MADE = {
    "importing": {"made": [{"kind": "Dataset", "reference": "Dataset:4"}, {"kind": "Image", "reference": "Image:5"}]}
}


def run(state, **more):
    default = {"name": "nuclei", "report": {}, "job_ids": [], "paused": False, "outcomes": {}, "id": uuid4()}
    return SimpleNamespace(state=state, **(default | more))


def test_the_message_begins_with_what_was_made_and_where():
    done = run("done", report={"made": {"Image": 2, "Roi": 12}}, outcomes=MADE)
    text = messages.describe(done, {4: "my results"})
    assert (
        text
        == f"Made 2 images, 12 ROIs. The images are in the dataset 'my results' (ID 4). nuclei is done. Run {done.id}."
    )
    assert "in the dataset 4." in messages.describe(done), "its name cannot be read"


def test_a_run_that_made_nothing_is_not_praised():
    assert messages.describe(run("done")).startswith("Nothing was made. nuclei is done.")


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
def test_a_folder_that_is_not_removed_is_named(state):
    plan = RunPlan(folder="/data/biomero_1")
    kept = run(state, recorded_request=RecordedRequest(keep_folder=True), plan=plan)
    assert "Its folder on the cluster is not removed: /data/biomero_1." in messages.describe(kept)
    other = run(state, recorded_request=RecordedRequest(), plan=plan)
    assert "folder" not in messages.describe(other)


@pytest.mark.parametrize("state", ["accepted", "running", "done", "cancelled", "failed"])
def test_each_line_is_sentences_because_omero_web_shows_them_as_one_paragraph(state):
    report = {"message": "exit 3", "kind": "permanent", "next_step": "look", "stage": "running"}
    for line in messages.describe(run(state, report=report)).splitlines():
        assert line.endswith((".", ")")), line


def test_a_detached_run_is_announced_with_how_to_follow_and_how_to_end_it():
    text = messages.detached("nuclei", UUID(int=5))
    for part in ("continues without this script", "Cancel Run", "biomeroworker show 00000000", str(UUID(int=5))):
        assert part in text


def test_a_failure_is_described_with_stage_cause_evidence_and_next_step():
    report = {"stage": "running", "message": "exit 3", "kind": "permanent", "detail": "last line", "next_step": "look"}
    text = messages.describe(run("failed", report=report))
    for word in ("running", "exit 3", "permanent", "last line", "look"):
        assert word in text


def test_a_run_that_skipped_images_is_described_with_their_names_and_the_next_step():
    report = {
        "made": {"Image": 2},
        "message": "1 of 3 has no result: b",
        "skipped": {"image-2": "b"},
        "next_step": "look",
    }
    text = messages.describe(run("done", report=report))
    for word in ("2 images", "NOT all: 1 of 3 has no result: b", "look", "script Retry Run"):
        assert word in text
    assert "NOT all" not in messages.describe(run("done", report={"made": {"Image": 3}}))


def test_a_paused_run_is_described_with_its_reason():
    paused = messages.describe(run("importing", paused=True, pause_reason="no space"))
    assert "PAUSED at importing: no space. In OMERO.web, run the script Resume Run." in paused


def test_datasets_that_were_made_are_named():
    made = {
        "importing": {
            "made": [{"kind": "Dataset", "reference": "Dataset:4"}, {"kind": "Image", "reference": "Image:5"}]
        }
    }
    assert list(messages.made_objects([run("done", outcomes=made)])) == [("Dataset", 4)]
