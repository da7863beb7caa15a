# ruff: noqa: F811  fixtures by import
"""Sessions of runs: which privilege opens them, how long they live, and that none is left open."""

from __future__ import annotations

import uuid

import omero.clients
import omero.model
import pytest
from omero.rtypes import rbool, rstring

from biomeroworker.eventlog.aggregates.states import RunState
from tests.integration.omero.omero_objects import Person
from tests.resilience import omero_world
from tests.resilience.omero_fixtures import omero_world_of, server  # noqa: F401
from tests.resilience.omero_world import ONE_SET, OmeroWorld
from tests.resilience.world import SLOW


def light_admin(world: OmeroWorld, *privileges: str) -> dict[str, str]:
    """An administrator with exactly these privileges; returns the variables for a supervisor's login."""
    assert world.server
    with world.server.root() as root:
        admin = root.sf.getAdminService()
        roles = admin.getSecurityRoles()
        user = omero.model.ExperimenterI()
        user.omeName, user.firstName, user.lastName = (rstring(f"l-{uuid.uuid4().hex[:8]}"), rstring("L"), rstring("A"))
        user.ldap = rbool(False)
        system, everybody = (omero.model.ExperimenterGroupI(n, False) for n in (roles.systemGroupId, roles.userGroupId))
        number = admin.createExperimenterWithPassword(user, rstring(Person.password), system, [everybody])
        wanted = [one for one in root.query("select p from AdminPrivilege p") if one.value.val in privileges]
        assert len(wanted) == len(privileges)
        admin.setAdminPrivileges(omero.model.ExperimenterI(number, False), wanted)
    return {**world.environment(), "OMERO_USER": user.omeName.val, "OMERO_PASSWORD": Person.password}


def sessions_of(world: OmeroWorld, name: str) -> list[str]:
    """Sessions of a user that the server has open."""
    assert world.server
    with world.server.root() as root:
        rows = root.rows("select s.uuid from Session s where s.owner.omeName = :n and s.closed is null", n=name)
    return [uuid for (uuid,) in rows]


def test_sudo_is_the_one_privilege_that_an_administrator_needs(omero_world_of):
    world = omero_world_of()
    environment = light_admin(world, "Sudo")
    run_id = world.submit()
    with omero_world.running(world, only=str(run_id), environment=environment):
        world.await_run(run_id)
    world.check(run_id)
    assert world.made() == ONE_SET, "all objects belong to the user"
    assert world.open_sessions() == []
    assert sessions_of(world, environment["OMERO_USER"]) == []


def test_without_sudo_the_run_fails_and_names_the_missing_privilege(omero_world_of):
    world = omero_world_of()
    assert world.server
    with world.server.root() as root:
        every = [value for (value,) in root.rows("select p.value from AdminPrivilege p")]
    environment = light_admin(world, *(one for one in every if one != "Sudo"))
    run_id = world.submit()
    with omero_world.running(world, only=str(run_id), environment=environment):
        world.await_run(run_id)
    report = world.check(run_id, RunState.FAILED).report
    assert environment["OMERO_USER"] in report["message"]
    assert "Sudo" in report["next_step"]


@SLOW
@pytest.mark.parametrize(("stage", "moment"), [("exporting", "before getPlane"), ("importing", "before setPlane")])
def test_a_step_that_takes_longer_than_the_servers_timeout_keeps_its_session(omero_world_of, stage, moment):
    """A thread keeps the session alive every five seconds, while the step computes or waits for a disk."""
    world = omero_world_of()
    run_id = world.submit()
    with omero_world.running(world, stage=stage, hold_at=moment, only=str(run_id), idle=9_000, alive=5):
        world.until(world.moments.with_suffix(".held").exists)
        world.until(lambda: world.open_sessions() == [], 20, must=False)
        assert world.open_sessions(), "the server dropped it"
        world.moments.with_suffix(".go").touch()
        world.await_run(run_id)
    assert not world.check(run_id).faults
    assert world.made() == ONE_SET
    assert world.open_sessions() == []


@SLOW
def test_a_session_that_a_killed_supervisor_left_is_dropped_by_the_server(omero_world_of):
    world = omero_world_of()
    run_id = world.submit()
    first = omero_world.start(world, stage="importing", kill_at=10, only=str(run_id), idle=9_000)
    first.join(60)
    assert world.open_sessions()
    world.until(lambda: world.open_sessions() == [], 60)


@SLOW
def test_a_session_that_is_ended_in_the_middle_of_a_step_is_opened_again(omero_world_of):
    """An administrator or the restart of a server can end it."""
    world = omero_world_of()
    run_id = world.submit()
    with omero_world.running(world, stage="exporting", hold_at="before getPlane", only=str(run_id)):
        world.until(world.moments.with_suffix(".held").exists)
        assert world.server
        with world.server.root() as root:
            for one in world.open_sessions():
                ended = omero.model.SessionI()
                ended.uuid = rstring(one)
                while root.sf.getSessionService().closeSession(ended) > 0:
                    pass
        world.moments.with_suffix(".go").touch()
        world.await_run(run_id)
    run = world.check(run_id)
    assert [fault.kind for fault in run.faults] == ["transient"]
    assert world.made() == ONE_SET
    assert world.open_sessions() == []
