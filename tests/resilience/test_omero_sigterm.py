# ruff: noqa: F811  fixtures by import
"""SIGTERM ends a supervisor and an attached Processor within ten seconds with status 0, at every moment of their work.

The moments are before and after each call to OMERO, as the code makes them, and those in which OMERO does not answer.
The next supervisor continues the step that was interrupted, and there is one set of objects.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.resilience import omero_world
from tests.resilience.omero_fixtures import omero_world_of, server  # noqa: F401
from tests.resilience.omero_world import ONE_SET, OmeroWorld, Relay
from tests.resilience.world import SLOW

LIMIT = 10.0
AT_ONCE = 2


def ends(process: BaseProcess) -> None:
    """Assert that the process ends in time, with status 0. It has got the signal just before."""
    process.join(LIMIT + 2)
    assert not process.is_alive(), "it does not end"
    assert process.exitcode == 0


def terminated_at(world: OmeroWorld, stage: str, number: int) -> bool:
    """Send SIGTERM to a supervisor at this moment; return whether the moment came. The next one finishes the run."""
    run_id = world.submit()
    first = omero_world.start(world, stage=stage, term_at=number)
    terminated = world.moments.with_suffix(".terminated")
    with world.log() as log:
        world.until(lambda: terminated.exists() or log.run(run_id).state.is_terminal)
    came = terminated.exists()
    started = time.monotonic()
    if not came:
        first.terminate()
    ends(first)
    assert time.monotonic() - started < LIMIT
    with omero_world.running(world):
        world.await_run(run_id)
    assert world.check(run_id).attempt == 1
    assert world.made() == ONE_SET, (stage, number, world.made())
    return came


@pytest.mark.parametrize(
    ("stage", "number"),
    [("importing", 113), *(pytest.param(*one, marks=SLOW) for one in (("exporting", 9), ("importing", 61)))],
)
def test_a_supervisor_ends_in_the_middle_of_a_call_to_omero(omero_world_of, stage, number):
    assert terminated_at(omero_world_of(), stage, number)


@SLOW
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("stage", "stride"), [("exporting", 5), ("importing", 9)])
def test_a_supervisor_ends_at_every_call_to_omero(omero_world_of, stage, stride):
    """At every ``stride``-th moment; an odd stride selects moments before and after calls in turn."""
    tried = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for start in range(1, 1000, stride * AT_ONCE):
            numbers = [start + stride * n for n in range(AT_ONCE)]
            outcomes = list(pool.map(lambda n: terminated_at(omero_world_of(f"at-{n}"), stage, n), numbers))
            tried += sum(outcomes)
            if not all(outcomes):
                break
    print(f"{tried} moments of {stage}")
    assert tried >= 8


@SLOW
@pytest.mark.parametrize(
    ("stage", "moment"),
    [
        ("importing", "before setPlane"),
        ("exporting", "before getPlane"),
        ("importing", "before addData"),
        ("importing", "before closeSession"),
    ],
)
def test_a_supervisor_ends_although_omero_does_not_answer(server, omero_world_of, stage, moment):
    world, relay = omero_world_of(), Relay(server.host, server.port)
    try:
        run_id = world.submit()
        environment = world.environment(relay.port)
        process = omero_world.start(world, stage=stage, hold_at=moment, encrypted=True, environment=environment)
        world.until(world.moments.with_suffix(".held").exists)
        relay.dumb.set()
        world.moments.with_suffix(".go").touch()
        time.sleep(0.3)  # let it be in the call; ending must work before that as well
        process.terminate()
        ends(process)
        relay.restore()
        with omero_world.running(world):
            world.await_run(run_id)
        world.check(run_id)
        assert world.made() == ONE_SET
    finally:
        relay.close()


# -- the attached Processor -------------------------------------------------------------------------------------------

SCRIPT = """
import signal, time
import omero.scripts as scripts
from omero.rtypes import rstring
client = scripts.client("Waits", "until it gets SIGHUP")
signal.signal(signal.SIGHUP, lambda *_: exit(0))
time.sleep(300)
"""
#: `biomeroworker attach`, which checks its session every 0.2 s, and must end within 4 s.
ATTACH = """
import sys
from biomeroworker.cli import main, shutdown
shutdown.GRACE_SECONDS = 4.0
from biomeroworker.node import attach
attach.CHECK_INTERVAL_SECONDS = 0.2
sys.argv = ["biomeroworker", "attach"]
main()
"""


@pytest.fixture
def line(server) -> Iterator[Relay]:
    relay = Relay(server.host, server.port)
    yield relay
    relay.close()


def attached(world: OmeroWorld, line: Relay) -> subprocess.Popen[str]:
    """The command, as the world's person, over a connection that can stop answering."""
    assert world.person
    given = {**world.environment(line.port), "OMERO_USER": world.person.name, "OMERO_PASSWORD": world.person.password}
    environment = {**os.environ, **given, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    command = [sys.executable, "-c", ATTACH]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, cwd=world.folder)


def terminate_in_time(process: subprocess.Popen[str]) -> None:
    started = time.monotonic()
    process.terminate()
    errors = process.communicate(timeout=LIMIT + 2)[1]
    assert process.returncode == 0, errors
    assert time.monotonic() - started < LIMIT


def serves(process: subprocess.Popen[str]) -> None:
    assert process.stderr
    assert "executing the scripts" in process.stderr.readline()


@pytest.mark.parametrize("silent", [False, pytest.param(True, marks=SLOW)])
def test_a_processor_ends_while_a_script_runs(omero_world_of, line, silent, tmp_path):
    world = omero_world_of()
    process = attached(world, line)
    serves(process)
    with world.session() as session:
        scripts = session.sf.getScriptService()
        number = scripts.uploadScript("/test/waits.py", SCRIPT)
        job = scripts.runScript(number, {}, None)
        world.until(lambda: children(process.pid))
        (child,) = children(process.pid)
        if silent:
            line.dumb.set()
        terminate_in_time(process)
        world.until(lambda: not Path(f"/proc/{child}").exists() or is_zombie(child), 5)
        del job


@SLOW
@pytest.mark.parametrize("moment", ["serving", "logging in"])
def test_a_processor_ends_although_omero_does_not_answer(omero_world_of, line, moment):
    world = omero_world_of()
    if moment == "logging in":
        line.dumb.set()
    process = attached(world, line)
    if moment == "serving":
        serves(process)
        line.dumb.set()
        time.sleep(1)  # let it check its session
    else:
        world.until(lambda: b"handled" in signals_of(process.pid))
    terminate_in_time(process)


def signals_of(pid: int) -> bytes:
    """``handled`` when the process has set its handler of SIGTERM: its command has started."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return b"handled" if caught >> (signal.SIGTERM - 1) & 1 else b""


def children(pid: int) -> list[int]:
    """Processes that a process has started, in any of its threads."""
    texts = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    return sorted({int(one) for text in texts for one in text.split()})


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
