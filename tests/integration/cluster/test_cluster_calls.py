"""A real cluster: sshd, SLURM with accounting, two nodes."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.containers.apptainer import Apptainer
from biomeroworker.cluster.slurm import commands
from biomeroworker.cluster.slurm.scheduler import JobSpec
from biomeroworker.cluster.transport.openssh import OpenSshTransport
from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.errors import Permanent

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(600)]

SINCE = datetime.now(UTC)


@pytest.fixture(scope="module")
def site(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    env = cluster.env
    transport = OpenSshTransport(env["SSH_HOST"], config_file=Path(env["SSH_CONFIG"]))
    yield Cluster(transport, Apptainer(), data="my-scratch/data", images="my-scratch/images", converters="conv")
    transport.close()


def job(site: Cluster, body: str, run: str, number: int = 1, **more: Any) -> JobSpec:
    folder = site.attempt_folder(run, number)
    site.transport.write_file(f"{folder}/job.sh", f"#!/bin/bash\n{body}\n".encode())
    options = {"time": "5", "cpus-per-task": "1", "mem": "50M", **more.pop("options", {})}
    return JobSpec(
        name=site.attempt_name(run, number),
        script=f"{folder}/job.sh",
        stdout=f"{folder}/slurm.out",
        workdir=folder,
        options=options,
        **more,
    )


def awaited(site: Cluster, name: str, *states: JobState, seconds: float = 60) -> JobStatus:
    deadline = time.monotonic() + seconds
    found: list[JobStatus] = []
    while time.monotonic() < deadline:
        found = site.status([name], SINCE)[name]
        if found and all(one.state in states for one in found):
            return found[-1]
        time.sleep(0.5)
    raise AssertionError(f"{name} is {found}")


ENDED = [state for state in JobState if state.is_terminal]


def test_final_states_of_all_jobs_are_queried_in_one_execution(site: Cluster) -> None:
    bodies = {
        "exit 0": (JobState.COMPLETED, 0),
        "exit 42": (JobState.FAILED, 42),
        "kill -SEGV $$": (JobState.FAILED, None),
        "tail /dev/zero": (JobState.OUT_OF_MEMORY, None),
    }
    runs = {body: str(uuid4()) for body in bodies}
    ids = {body: site.submit(job(site, body, run)) for body, run in runs.items()}
    for body, (state, code) in bodies.items():
        status = awaited(site, site.attempt_name(runs[body], 1), *ENDED)
        assert (status.state, status.job_id) == (state, ids[body]), body
        if code is not None:
            deadline = time.monotonic() + 20
            while status.exit_code is None and time.monotonic() < deadline:  # accounting follows
                time.sleep(0.5)
                status = site.status([status.name], SINCE)[status.name][-1]
            assert status.exit_code == code
    before = site.transport.executions
    answers = site.status([site.attempt_name(run, 1) for run in runs.values()], SINCE)
    assert site.transport.executions == before + 1
    assert [len(found) for found in answers.values()] == [1, 1, 1, 1]


def test_a_job_is_found_by_its_name_and_an_unknown_name_is_not(site: Cluster) -> None:
    run = str(uuid4())
    name = site.attempt_name(run, 1)
    assert site.find(name, SINCE) is None
    job_id = site.submit(job(site, "sleep 60", run, options={"hold": ""}))
    found = site.find(name, SINCE)
    assert found is not None
    assert (found.job_id, found.state, found.reason) == (job_id, JobState.PENDING, "JobHeldUser")
    site.cancel([name])
    assert awaited(site, name, JobState.CANCELLED).job_id == job_id
    site.cancel([name, site.attempt_name(run, 2)])  # again, and one that never was


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"partition": "nope"}, "_job_partition"),
        ({"mem": "500G"}, "_job_mem"),
        ({"time": "90-0"}, "_job_time"),
        ({"nonsense": "1"}, "sbatch_"),
    ],
)
def test_a_refused_submission_names_the_key_to_change_and_creates_no_job(
    site: Cluster, options: dict[str, str], words: str
) -> None:
    run = str(uuid4())
    with pytest.raises(Permanent) as caught:
        site.submit(job(site, "exit 0", run, options=options))
    assert words in caught.value.hint
    time.sleep(1)
    assert site.find(site.attempt_name(run, 1), SINCE) is None


def test_output_formats_in_the_users_environment_do_not_affect_parsing(site: Cluster) -> None:
    run = str(uuid4())
    name = site.attempt_name(run, 1)
    site.submit(job(site, "sleep 300", run, options={"hold": ""}))
    disguise = (
        "export SQUEUE_FORMAT=%i SQUEUE_STATES=RUNNING SACCT_FORMAT=JobID SLURM_TIME_FORMAT=relative TZ=Asia/Tokyo"
    )
    command = commands.status_command([name], SINCE)
    answer = site.transport.run(["sh", "-c", disguise + '; exec "$@"', "sh", *command])
    (status,) = commands.parse_status(answer.stdout).jobs
    assert status.state is JobState.PENDING
    assert status.submitted is not None
    assert abs((status.submitted - datetime.now(UTC)).total_seconds()) < 60
    site.cancel([name])


def test_a_job_that_the_scheduler_no_longer_knows_is_found_by_its_start_marker(site: Cluster) -> None:
    run = str(uuid4())
    folder = site.attempt_folder(run, 1)
    site.transport.write_file(f"{folder}/started", b"job_id=4711\nnode=n7\nrestart=0\ntime=2026-01-01T00:00:00Z\n")
    found = site.find(site.attempt_name(run, 1), SINCE)
    assert found is not None
    assert (found.job_id, found.node, found.state) == (4711, "n7", JobState.UNKNOWN)
