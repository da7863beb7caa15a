import pytest
import sqlalchemy.exc

from biomeroworker.deployment import deployment as module
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.domain.request import RunRequest
from biomeroworker.errors import RequestRejected
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.runlog import RunLog

REQUEST = RunRequest(workflow="nuclei", source="folder", inputs={"folder": "/in"}, outputs={"folder": "/out"})


@pytest.fixture
def deployment(tmp_path, monkeypatch):
    config = tmp_path / "slurm-config.ini"
    config.write_text(f"[SSH]\nhost = nowhere.invalid\n[ANALYTICS]\nsqlalchemy_url = sqlite:///{tmp_path}/log.sqlite\n")
    monkeypatch.setattr(module, "SUBMIT_RETRY_SECONDS", 0.0)
    with Deployment.load(config) as deployment:
        yield deployment


def test_a_run_can_be_submitted_without_a_cluster(deployment):
    run = deployment.log.run(deployment.submit(REQUEST))
    assert run.state is RunState.ACCEPTED
    assert RunRequest.model_validate(run.request) == REQUEST


def test_a_run_is_accepted_once_if_the_answer_is_lost(deployment, monkeypatch):
    accepted = RunLog.accept
    lost = iter([True, True, False])

    def accept(log, *arguments, **keywords):
        run_id = accepted(log, *arguments, **keywords)
        if next(lost):
            raise sqlalchemy.exc.OperationalError("commit", {}, Exception("server closed the connection"))
        return run_id

    monkeypatch.setattr(RunLog, "accept", accept)
    run_id = deployment.submit(REQUEST)
    assert [run.id for run in deployment.log.runs()] == [run_id]


def test_wait_ends_at_the_timeout(deployment):
    run_id = deployment.submit(REQUEST)
    with pytest.raises(TimeoutError, match="it continues"):
        deployment.wait(run_id, timeout=0)


def test_retry_is_a_new_run_with_the_same_request(deployment):
    run_id = deployment.submit(REQUEST)
    with pytest.raises(RequestRejected, match="has not ended"):
        deployment.retry(run_id)
    deployment.log.fail(run_id, {"message": "on purpose"})
    again = deployment.retry(run_id)
    assert again != run_id
    assert deployment.log.run(again).request == {**deployment.log.run(run_id).request, "retry_of": str(run_id)}


def test_a_request_with_a_secret_is_rejected_and_not_recorded(deployment):
    with pytest.raises(RequestRejected):
        deployment.submit(REQUEST.model_copy(update={"outputs": {"password": "hunter2"}}))
    assert deployment.log.runs() == []


def test_the_default_is_the_first_cluster_if_all_have_names(tmp_path):
    config = tmp_path / "slurm-config.ini"
    config.write_text(
        "[SSH:far]\nhost = far.invalid\n[SLURM:far]\nslurm_data_path = /far/data\ngpu_partition = a100\n"
        f"[ANALYTICS]\nsqlalchemy_url = sqlite:///{tmp_path}/log.sqlite\n"
    )
    with Deployment.load(config) as deployment:
        assert deployment.cluster is deployment.clusters["far"]
