"""One contract for schedulers: SLURM itself, and the fake one that the resilience tests make misbehave.

Tests with faults of the fake are meaningful only if it otherwise behaves like SLURM.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.containers.apptainer import Apptainer
from biomeroworker.cluster.slurm.parsing import array_expression
from biomeroworker.cluster.slurm.scheduler import JobSpec
from biomeroworker.cluster.transport.openssh import OpenSshTransport
from biomeroworker.domain.job_status import JobState, JobStatus, by_task
from tests.fakes.transport import FakeTransport

pytestmark = pytest.mark.timeout(300)

PROGRAMS = ("sbatch", "squeue", "sacct", "scancel", "scontrol")
SINCE = datetime.now(UTC)


def fake(folder: Path) -> Cluster:
    """A cluster in a folder."""
    import tests.resilience

    program = Path(tests.resilience.__path__[0]) / "fake_slurm.py"
    (folder / "bin").mkdir()
    for name in PROGRAMS:
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec {sys.executable} -IS {program} {name} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    transport = FakeTransport(folder / "home", path=[folder / "bin"])
    return Cluster(transport, Apptainer(), data="data", images="images", converters="converters")


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.sandbox)])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    if request.param == "fake":
        yield fake(tmp_path)
        return
    env = request.getfixturevalue("cluster").env
    transport = OpenSshTransport(env["SSH_HOST"], config_file=Path(env["SSH_CONFIG"]))
    yield Cluster(transport, Apptainer(), data="contract/data", images="images", converters="converters")
    transport.close()


@pytest.fixture
def submit(site: Cluster) -> Iterator[Callable[..., str]]:
    """Submit a script; the name of its job. All are cancelled in the end."""
    names = []

    def submit(body: str, **more: Any) -> str:
        run = str(uuid4())
        folder = site.attempt_folder(run, 1)
        site.transport.write_file(f"{folder}/job.sh", f"#!/bin/bash\n{body}\n".encode())
        options = {"time": "5", "cpus-per-task": "1", "mem": "50M"}
        names.append(site.attempt_name(run, 1))
        site.submit(JobSpec(names[-1], f"{folder}/job.sh", f"{folder}/slurm.out", folder, options=options, **more))
        return names[-1]

    yield submit
    site.cancel(names)


def until(site: Cluster, name: str, met: Callable[[list[JobStatus]], object], seconds: float = 90) -> list[JobStatus]:
    """Poll until the status meets the condition."""
    end = time.monotonic() + seconds
    while not met(found := site.status([name], SINCE)[name]):
        assert time.monotonic() < end, found
        time.sleep(0.3)
    return found


def all_ended(found: list[JobStatus]) -> bool:
    return bool(found) and all(one.state.is_terminal and one.accounted for one in found)


def test_a_job_is_reported_from_the_queue_to_its_end(site: Cluster, submit: Callable[..., str]) -> None:
    good, bad = submit("sleep 1"), submit("exit 3")
    running = until(site, good, lambda found: found and found[0].state is not JobState.PENDING)
    assert running[0].in_queue
    assert running[0].node
    (done,), (failed,) = until(site, good, all_ended), until(site, bad, all_ended)
    assert (done.state, done.exit_code, done.signal) == (JobState.COMPLETED, 0, None)
    assert (failed.state, failed.exit_code) == (JobState.FAILED, 3)
    assert done.submitted is not None
    assert done.usage()["cpus"] == 1
    assert site.active_jobs([good, bad], SINCE) == set()


def test_a_job_is_found_by_its_name_and_an_unknown_name_is_not(site: Cluster, submit: Callable[..., str]) -> None:
    name = submit("sleep 60")
    found = site.find(name, SINCE)
    assert found is not None
    assert found.job_id > 0
    assert site.find(site.attempt_name(uuid4(), 1), SINCE) is None


def test_a_cancelled_job_is_cancelled_and_another_is_not(site: Cluster, submit: Callable[..., str]) -> None:
    name, other = submit("sleep 60"), submit("sleep 60")
    until(site, name, lambda found: found and found[0].state is JobState.RUNNING)
    site.cancel([name])
    (ended,) = until(site, name, lambda found: found and found[0].state.is_terminal)
    assert ended.state is JobState.CANCELLED
    assert site.active_jobs([name, other], SINCE) == {other}
    site.cancel([name])  # again, and nothing happens


def test_array_tasks_wait_for_their_release_and_have_their_own_states(
    site: Cluster, submit: Callable[..., str]
) -> None:
    name = submit("exit $SLURM_ARRAY_TASK_ID", array=array_expression([0, 1, 2, 5], 2), hold=True)
    found = site.status([name], SINCE)[name]
    assert [one.task for one in found] == [0, 1, 2, 5]
    assert all(one.is_held for one in found)
    site.release(name, [0, 1])
    tasks = by_task(until(site, name, lambda found: sum(one.accounted for one in found) == 2), [0, 1, 2, 5])
    assert {task: one and (one.state, one.exit_code) for task, one in tasks.items() if task < 2} == {
        0: (JobState.COMPLETED, 0), 1: (JobState.FAILED, 1),
    }  # fmt: skip
    assert all((one := tasks[task]) and one.is_held for task in (2, 5))
    site.release(name, [0, 1, 2])  # the first two have ended: no harm
    until(site, name, lambda found: sum(one.accounted for one in found) == 3)
    site.cancel([name])
    last = by_task(until(site, name, lambda found: all(one.state.is_terminal for one in found)), [0, 1, 2, 5])
    assert {task: one and one.state.name for task, one in last.items()} == {
        0: "COMPLETED", 1: "FAILED", 2: "FAILED", 5: "CANCELLED",
    }  # fmt: skip
    assert len({one.job_id for one in last.values() if one}) == 1


def test_cancelling_an_array_cancels_its_held_tasks_too(site: Cluster, submit: Callable[..., str]) -> None:
    name = submit("sleep 300", array="0-9", hold=True)
    site.release(name, [4])
    until(site, name, lambda found: any(one.state is JobState.RUNNING for one in found))
    site.cancel([name])
    found = until(site, name, lambda found: all(one.state.is_terminal for one in found))
    assert {one and one.state for one in by_task(found, range(10)).values()} == {JobState.CANCELLED}
    site.release(name, [5])  # too late, and no harm


def test_the_limits_of_the_cluster_are_queried_once(site: Cluster) -> None:
    assert site.limits.tasks > 1000
    before = site.transport.executions
    assert site.limits.max_job_count > 0
    assert site.transport.executions == before
