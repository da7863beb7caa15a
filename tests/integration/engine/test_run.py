"""Complete runs on a real cluster: success, and each kind of failure."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tifffile

from biomeroworker.cluster.transport import openssh
from biomeroworker.deployment.fetch_results import fetch_run, run_of_job
from biomeroworker.deployment.run_actions import Requester
from biomeroworker.errors import RequestRejected
from biomeroworker.eventlog.aggregates.states import RunState

HOSTILE_NAME = "a b [1];$(touch x).tif"
HOSTILE_TEXT = 'it\'s "$(touch /tmp/pwned)" `id`; --exit 9 \n [x] ü -- *'


def names_of(events):
    return [event.name for event in events]


def test_results_of_a_folder_have_the_names_of_its_images_and_can_be_fetched_again(site, tmp_path):
    run = site.execute(site.request(site.images(HOSTILE_NAME, "plain.tif"), text=HOSTILE_TEXT))
    assert run.state is RunState.DONE, run.report
    results = site.results(run)
    assert sorted(path.name for path in results.iterdir()) == [
        "a b [1];$(touch x)_text.txt",
        "plain_text.txt",
        "provenance.json",
        f"run-report-{str(run.id)[:8]}.html",
    ]
    assert (results / "plain_text.txt").read_bytes() == HOSTILE_TEXT.encode(), "values arrive byte for byte"
    provenance = json.loads((results / "provenance.json").read_text())
    assert provenance["parameters"]["text"] == HOSTILE_TEXT
    assert provenance["version"] == "v1.0.0"
    assert provenance["image_digest"].startswith("sha256:")
    assert provenance["job_id"] == run.job_ids[0]

    assert run_of_job(site.deployment, run.job_ids[0], Requester(0, is_admin=True)).id == run.id
    with pytest.raises(RequestRejected, match="not recorded as yours"):
        run_of_job(site.deployment, run.job_ids[0], Requester(7))
    fetched = fetch_run(site.deployment, run, tmp_path / "again")
    assert (fetched.folder / "image-2_text.txt").read_bytes() == HOSTILE_TEXT.encode()
    assert [image.name for image in fetched.inputs.images] == ["a b [1];$(touch x)", "plain"]
    assert fetched.provenance.job_id == run.job_ids[0]
    site.deployment.cluster.transport.remove(site.deployment.cluster.run_folder(run.id))
    with pytest.raises(RequestRejected, match="was removed from the cluster"):
        fetch_run(site.deployment, run, tmp_path / "later")


def test_a_file_travels_with_the_run_under_a_name_that_no_shell_reads(site):
    model = site.folder / "my model;$(touch x).txt"
    model.write_bytes(b"weights\0\xff")
    request = site.request(site.images("a.tif"), write=False).model_copy(update={"files": {"model": (str(model),)}})
    run = site.execute(request)
    assert run.state is RunState.DONE, run.report
    assert (site.results(run) / "model.txt").read_bytes() == b"weights\0\xff"
    assert run.plan.folder == site.deployment.cluster.run_folder(run.id)
    arguments = site.deployment.cluster.transport.read_from(f"{run.plan.folder}/attempt-1/arguments")
    assert f"--model={run.plan.folder}/files/p1/my_model_touch_x_.txt".encode() in arguments.split(b"\0")
    provenance = json.loads((site.results(run) / "provenance.json").read_text())
    assert provenance["parameters"]["model"] == str(model)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"model": ("/no/such.txt",)}, "model: /no/such.txt does not exist"),
        ({"modle": ("/etc/hostname",)}, "modle: obedient has no such file parameter (it has model)"),
        ({"model": ("/etc/hostname",)}, "model: obedient accepts .txt, but the file is hostname"),
    ],
)
def test_a_wrong_file_fails_the_run_before_anything_is_computed(site, files, message):
    run = site.execute(site.request(site.images("a.tif")).model_copy(update={"files": files}))
    assert run.state is RunState.FAILED
    assert message in run.report["message"]
    assert not run.job_ids


def test_no_text_of_a_user_is_executed(site):
    site.execute(site.request(site.images(HOSTILE_NAME), text="$(touch pwned); touch pwned"))
    found = site.deployment.cluster.transport.run(["find", ".", "-name", "x", "-o", "-name", "pwned"])
    assert found.stdout == ""


def test_the_log_contains_every_event_of_the_run(site):
    run = site.execute(site.request(site.images("one.tif")))
    events = names_of(site.deployment.log.events(run.id))
    for name in (
        "WorkflowInitiated",
        "RunAccepted",
        "StageIntended",
        "AttemptStarted",
        "JobSubmitted",
        "WorkflowCompleted",
    ):
        assert name in events, name
    assert events.count("JobSubmitted") == 1
    assert [stage.value for stage in run.outcomes] == [
        "exporting",
        "transferring",
        "submitting",
        "fetching",
        "importing",
    ]
    assert run.outcomes[RunState.TRANSFERRING]["bytes"] > 0


def test_each_progress_value_of_a_job_is_recorded_once(site):
    run = site.execute(site.request(site.images("one.tif"), sleep=7))  # a job reads its progress every 5 seconds
    observed = [event.attributes for event in site.deployment.log.events(run.id) if event.name == "JobObserved"]
    values = [one["progress"] for one in observed if one["state"] == "RUNNING"]
    assert values[-1] == "37%", "the percents that its container printed"
    assert values.count("37%") == 1, "what is not new is not recorded again"


@pytest.fixture
def unhurried(make_site):
    """A deployment with the poll interval of a real site."""
    made = make_site(poll_seconds=5)
    yield made
    made.deployment.close()


def test_a_run_costs_six_remote_executions_and_its_polls_on_one_connection(unhurried, monkeypatch):
    cluster = unhurried.deployment.cluster
    transport, polls = cluster.transport, []
    query = cluster.status
    monkeypatch.setattr(cluster, "status", lambda names, since: polls.append(names) or query(names, since))
    before, connections = transport.executions, transport.connections
    unhurried.execute(unhurried.request(unhurried.images("one.tif")))
    assert transport.executions - before <= 6 + len(polls)
    assert transport.connections == connections, "the connection that was there already served all of it"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"exit": 3}, "exit code 3"),
        ({"exit": 3, "write": False}, "exit code 3"),
        ({"write": False}, "wrote nothing"),
    ],
)
def test_a_failed_container_fails_the_run_even_with_output_files(site, parameters, message):
    started = time.monotonic()
    run = site.execute(site.request(site.images("one.tif"), **parameters))
    assert run.state is RunState.FAILED
    assert message in run.report["message"]
    assert run.report["stage"] == "fetching"
    assert "retry" in run.report["next_step"]
    if parameters.get("exit"):
        assert "failing on purpose with 3" in run.report["detail"], "the end of the container's stderr"
    assert time.monotonic() - started < 60
    assert not site.results(run).exists()
    assert site.jobs() == []


@pytest.mark.parametrize(
    ("workflow", "parameters", "message"),
    [
        ("obediant", {}, "did you mean 'obedient'"),
        ("broken", {}, "is disabled"),
        ("obedient", {"exit": 300}, "exit"),
        ("obedient", {"exit": "three"}, "exit"),
        ("obedient", {"colour": "red"}, "colour"),
    ],
)
def test_an_invalid_request_fails_and_the_report_names_what_to_change(site, workflow, parameters, message):
    run = site.execute(site.request(site.images("one.tif"), workflow, **parameters))
    assert run.state is RunState.FAILED
    assert run.report["stage"] == "accepted"
    assert message in run.report["message"]
    assert "AttemptStarted" not in names_of(site.deployment.log.events(run.id)), "nothing was moved"


def test_missing_inputs_fail_at_admission(site, tmp_path):
    run = site.execute(site.request(tmp_path / "nowhere"))
    assert run.state is RunState.FAILED
    assert run.report["stage"] == "accepted"
    assert "is not a folder" in run.report["message"]


def test_an_unreadable_image_fails_the_run_and_is_named(site):
    images = site.images("good.tif")
    (images / "bad.tif").write_bytes(b"II*\0 truncated")
    run = site.execute(site.request(images))
    assert run.state is RunState.FAILED
    assert run.report["stage"] == "exporting"
    assert "bad.tif" in run.report["message"]


def test_an_image_that_the_workflow_does_not_accept_fails_the_run_before_any_export(site):
    images = site.images("good.tif")
    tifffile.imwrite(images / "many.tif", np.zeros((5, 16, 16), "uint8"), metadata={"axes": "CYX"}, imagej=False)
    run = site.execute(site.request(images))
    assert (run.state, run.report["stage"]) == (RunState.FAILED, "exporting")
    assert run.report["message"] == "obedient accepts only images with channels: 1-3, but many (image-2) has 5 channels"
    assert "choose other images" in run.report["next_step"]
    names = names_of(site.deployment.log.events(run.id))
    assert "AttemptStarted" not in names, "nothing was moved"
    assert names.count("FaultMet") <= 1, "it is not tried again"


def test_an_unreachable_cluster_fails_the_run_at_admission_within_a_minute(make_site, tmp_path):
    config = tmp_path / "ssh_config"
    config.write_text("Host hpc\n  HostName 127.0.0.1\n  Port 9\n  BatchMode yes\n")
    site = make_site(ssh_config=str(config), pull=False)
    started = time.monotonic()
    run = site.execute(site.request(site.images("one.tif")))
    assert time.monotonic() - started < 60
    assert run.state is RunState.FAILED
    assert run.report["stage"] == "accepted"
    assert "refused" in (run.report["message"] + run.report["detail"]).lower()
    site.deployment.close()


def test_a_silent_cluster_fails_the_run_at_admission_within_a_minute(make_site, tmp_path, monkeypatch):
    """Every try waits for the timeout of the host, which is one second here; the tries add up."""
    promised = openssh._CONNECT_SECONDS
    monkeypatch.setattr(openssh, "_CONNECT_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = tmp_path / "ssh_config"
        port = silent.getsockname()[1]
        config.write_text(f"Host hpc\n  HostName 127.0.0.1\n  Port {port}\n  BatchMode yes\n")
        site = make_site(ssh_config=str(config), pull=False)
        started = time.monotonic()
        run = site.execute(site.request(site.images("one.tif")))
        took = time.monotonic() - started
        silent.setblocking(False)
        tries = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                tries += 1
    assert tries > 1
    assert took + tries * (promised - 1) < 60
    assert run.state is RunState.FAILED
    assert run.report["stage"] == "accepted"
    assert "biomeroworker retry" in run.report["next_step"]
    site.deployment.close()


def test_a_missing_converter_is_reported_before_any_transfer(make_site):
    site = make_site()
    descriptor = site.folder / "obedient/descriptor.json"
    descriptor.write_text(descriptor.read_text().replace('["zarr"]', '["tif"]'))
    run = site.execute(site.request(site.images("one.tif")))
    assert run.state is RunState.FAILED
    assert run.report["stage"] == "accepted"
    assert "no converter is configured" in run.report["message"]
    assert "[CONVERTERS]" in run.report["next_step"]
    site.deployment.close()


def test_a_run_uses_the_workflow_of_its_admission(make_site):
    """The descriptor is corrected while the job runs: the computed results are not lost."""
    site = make_site()
    run_id = site.deployment.submit(site.request(site.images("one.tif"), sleep=4))
    first = site.supervisor()
    executing = threading.Thread(target=first.run_until_end, args=(run_id,))
    executing.start()
    deadline = time.monotonic() + 40
    while not site.deployment.log.run(run_id).job_ids:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    first.stop()
    executing.join(20)
    (site.folder / "obedient/descriptor.json").write_text("no descriptor at all")
    site.supervisor().run_until_end(run_id)
    run = site.deployment.log.run(run_id)
    assert run.state is RunState.DONE, run.report
    assert json.loads((site.results(run) / "provenance.json").read_text())["parameters"]["sleep"] == 4
    site.deployment.close()


def test_a_missing_image_is_reported_before_any_transfer(site):
    request = site.request(site.images("one.tif")).model_copy(update={"version": "v9.9.9"})
    run = site.execute(request)
    assert run.state is RunState.FAILED
    assert run.report["stage"] == "accepted"
    assert "v9.9.9" in run.report["message"]
    assert "init" in run.report["next_step"]


def test_an_option_that_sbatch_refuses_fails_the_run_with_its_message(site):
    request = site.request(site.images("one.tif")).model_copy(update={"job_options": {"partition": "nosuch"}})
    run = site.execute(request)
    assert run.state is RunState.FAILED
    assert run.report["stage"] == "submitting"
    assert "partition" in (run.report["message"] + run.report["detail"]).lower()


def test_a_cancelled_run_leaves_nothing_on_the_cluster(site):
    run_id = site.deployment.submit(site.request(site.images("one.tif"), sleep=300))
    executing = threading.Thread(target=site.supervisor().run_until_end, args=(run_id,))
    executing.start()
    deadline = time.monotonic() + 40
    while site.deployment.log.run(run_id).state is not RunState.RUNNING:
        assert time.monotonic() < deadline, site.deployment.log.run(run_id).state
        time.sleep(0.2)
    site.deployment.cancel(run_id, "a test")
    executing.join(60)
    assert not executing.is_alive()
    run = site.deployment.log.run(run_id)
    assert run.state is RunState.CANCELLED
    assert "a test" in run.report["message"]
    assert site.jobs() == []


DIES_AFTER_SBATCH = """
import os, sys, uuid
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.engine.steps.executor import RunExecutor
from biomeroworker.engine.supervisor import Supervisor
from biomeroworker.engine.timing import Timing
from biomeroworker.deployment.sources import Sources
from biomeroworker.eventlog.runlog import RunLog

RunLog.submitted = lambda *arguments, **keywords: os._exit(9)
deployment = Deployment.load(sys.argv[1])
timing = Timing(lease_seconds=2.0)
executor = RunExecutor(deployment.log, deployment.clusters, Sources(), deployment.settings, timing=timing)
Supervisor(deployment.log, executor).run_until_end(uuid.UUID(sys.argv[2]))
"""


def test_a_job_that_was_submitted_before_a_crash_is_adopted_not_submitted_again(site):
    """The supervisor dies between sbatch and the record of the job id: the most critical point."""
    run_id = site.deployment.submit(site.request(site.images("one.tif"), sleep=3))
    command = [sys.executable, "-c", DIES_AFTER_SBATCH, str(site.config), str(run_id)]
    assert subprocess.run(command, timeout=60, check=False).returncode == 9
    assert site.deployment.log.run(run_id).state is RunState.SUBMITTING
    site.supervisor().run_until_end(run_id)
    run = site.deployment.log.run(run_id)
    assert run.state is RunState.DONE, run.report
    assert len(site.jobs_ever(run.attempts[1].name)) == 1


def test_many_runs_execute_in_parallel_and_are_polled_together(unhurried):
    site = unhurried
    runs = [site.deployment.submit(site.request(site.images("one.tif"), sleep=4)) for _ in range(6)]
    supervisor = site.supervisor()
    transport = site.deployment.cluster.transport
    before, started = transport.executions, time.monotonic()
    serving = threading.Thread(target=supervisor.serve)
    serving.start()
    ended = [site.deployment.wait(run_id, timeout=90) for run_id in runs]
    took = time.monotonic() - started
    supervisor.stop()
    serving.join(20)
    assert [run.state for run in ended] == [RunState.DONE] * 6
    assert took < 6 * 6, "they did not wait for one another"
    own = 4 * len(runs)  # send, submit, fetch, statistics for the report
    assert transport.executions - before - own < 12, "all jobs are polled in one query"


def test_two_supervisors_do_not_execute_one_run_twice(site):
    run_id = site.deployment.submit(site.request(site.images("one.tif"), sleep=2))
    supervisors = [site.supervisor(), site.supervisor()]
    both = [threading.Thread(target=supervisor.serve) for supervisor in supervisors]
    for thread in both:
        thread.start()
    run = site.deployment.wait(run_id, timeout=60)
    for supervisor in supervisors:
        supervisor.stop()
    for thread in both:
        thread.join(30)
    assert run.state is RunState.DONE, run.report
    assert names_of(site.deployment.log.events(run_id)).count("JobSubmitted") == 1
