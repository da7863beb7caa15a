"""The log of an ended run as text."""

from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import UUID

from biomeroworker.deployment import job_log
from biomeroworker.domain.plan import RunPlan
from biomeroworker.domain.request import RecordedRequest
from biomeroworker.eventlog.aggregates.states import RunState


class FakeTransport:
    def __init__(self, files):
        self.files, self.read = files, []

    def read_from(self, path, offset=0, *, limit, timeout):
        self.read.append(path)
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path][:limit]


def ended(tasks=(), good=(), **more):
    facts = {
        "id": UUID(int=1), "name": "nuclei", "state": RunState.FAILED, "cluster": "", "attempt": 1, "job_ids": [9],
        "created_on": datetime(2026, 1, 2, tzinfo=UTC), "modified_on": datetime(2026, 1, 3, tzinfo=UTC),
        "plan": RunPlan(image="/i/n.sif", version="v1", parameters={"diameter": 3}),
        "recorded_request": RecordedRequest(inputs={"type": "Image", "ids": [3]}),
        "report": {"stage": "running", "message": "exit code 3"},
        "attempts": {1: SimpleNamespace(tasks=tasks)}, "good_chunks": dict.fromkeys(good, 1),
    }  # fmt: skip
    return SimpleNamespace(**(facts | more))


def clusters(transport):
    return {"": SimpleNamespace(transport=transport, attempt_folder=lambda run, number: f"/data/attempt-{number}")}


def test_the_log_has_the_facts_of_the_run_and_the_outputs_of_its_job():
    transport = FakeTransport({"/data/attempt-1/slurm.out": b"starting", "/data/attempt-1/container.err": b"bad \xff"})
    text = job_log.job_log(clusters(transport), ended())
    for part in ("nuclei, failed", "/i/n.sif", '"diameter": 3', "SLURM jobs 9", "exit code 3", "--- slurm.out ---",
                 "starting", "--- container.err ---", "bad \ufffd"):  # fmt: skip
        assert part in text
    assert "container.out" not in text


def test_of_many_tasks_the_failed_ones_are_read_first():
    transport = FakeTransport({})
    text = job_log.job_log(clusters(transport), ended(tasks=range(8), good=range(6)))
    assert f"Outputs of {job_log.TASKS_READ} of 8 tasks" in text
    folders = list(dict.fromkeys(path.split("/")[3] for path in transport.read))
    assert folders == ["task-6", "task-7", "task-0", "task-1", "task-2"]


def test_a_cluster_that_does_not_answer_is_named_and_the_facts_remain():
    text = job_log.job_log({}, ended())
    assert "exit code 3" in text
    assert "cannot be read from the cluster" in text
    assert "No job was submitted" in job_log.job_log({}, ended(job_ids=[]))
