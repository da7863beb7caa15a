"""Design §2 with the deployment's containers killed: an accepted run ends once, with one set of results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.container.stack import NODES, Launch, Stack, until

LaunchScript = Callable[..., Launch]

#: Duration of the job in runs that are disturbed: longer than the outage.
JOB_SECONDS = 12


@pytest.fixture
def launch(stack: Stack) -> Iterator[LaunchScript]:
    """Launch the script; after the test every container of the project works again."""
    launched: list[Launch] = []

    def start(**options: int) -> Launch:
        launched.append(stack.launch(**options))
        return launched[-1]

    yield start
    for one in launched:
        one.close()


def test_a_run_goes_from_omero_script_launch_through_slurm_to_imported_images(
    stack: Stack, launch: LaunchScript
) -> None:
    run = launch()
    run.check()
    output = run.await_script()
    assert run.dataset in output


def test_the_grid_runs_both_processors_with_the_interpreter_of_their_nodes(stack: Stack) -> None:
    for node, server in NODES.items():
        programs = stack.execute(node, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        assert "python -m runProcessor" in programs, f"{server} does not run in {node}: {programs}"


def test_a_run_outlives_the_node_that_executes_it(stack: Stack, launch: LaunchScript) -> None:
    """The other node continues the run when the lease has expired, a minute later; the killed node starts again."""
    run = launch(sleep=JOB_SECONDS)
    run.await_job()
    holder = stack.holder(run.run)
    stack.kill(holder)
    try:
        run.check()
    finally:
        moment = time.time()
        stack.start(holder)
        stack.await_registered(holder, moment)


def test_a_run_outlives_the_database_of_the_run_log(stack: Stack, launch: LaunchScript) -> None:
    run = launch(sleep=JOB_SECONDS)
    run.await_job()
    stack.kill("database-biomero")
    # the job ends while no event can be recorded
    until(lambda: not stack.execute("localslurm", "squeue", "-h"), 60, "the job has ended")
    stack.start("database-biomero")
    stack.await_health("database-biomero")
    run.check()


def test_a_run_outlives_omeros_master(stack: Stack, launch: LaunchScript) -> None:
    run = launch(sleep=JOB_SECONDS)
    run.await_job()
    stack.kill("omeroserver")
    until(lambda: not stack.execute("localslurm", "squeue", "-h"), 60, "the job has ended")
    stack.start("omeroserver")
    stack.await_health("omeroserver")
    stack.login()
    run.check()
    for node in NODES:
        stack.await_in_grid(node)


def test_a_run_outlives_the_cluster_that_runs_its_job(stack: Stack, launch: LaunchScript) -> None:
    run = launch(sleep=JOB_SECONDS)
    run.await_job()
    stack.kill("localslurm")
    stack.start("localslurm")
    stack.await_health("localslurm")
    run.check()


def test_nodes_follow_a_master_that_comes_back_under_another_address(
    stack: Stack, launch: LaunchScript, figures: dict[str, str]
) -> None:
    stack.engine.run("stop", "-t", "20", stack.container("omeroserver"))
    address = stack.move("omeroserver", 200)
    stack.start("omeroserver")
    stack.await_health("omeroserver")
    stack.login()
    for node in NODES:
        stack.await_in_grid(node)
        assert stack.execute(node, "getent", "hosts", "omeroserver").split()[0] == address
    figures["seconds until scripts run again after the master came back under another address"] = stack.await_scripts()
    run = launch()
    run.check()
    run.await_script()


@pytest.mark.parametrize("service", [*NODES, "localslurm"])
def test_sigterm_stops_a_container_within_15_seconds(stack: Stack, service: str) -> None:
    container, moment = stack.container(service), time.time()
    stack.engine.run("stop", "-t", "60", container)
    seconds = time.time() - moment
    state = stack.engine.inspect(container)["State"]
    stack.start(service)
    stack.await_health(service)
    if service in NODES:
        stack.await_registered(service, moment + seconds)
    assert state["ExitCode"] == 0, stack.logs(service)[-2000:]
    assert seconds < 15
