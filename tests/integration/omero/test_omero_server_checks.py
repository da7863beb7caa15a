"""Findings of the doctor about login, privileges, Tables and Processor of a real server."""

import contextlib
import os
from pathlib import Path

import omero
import omero.clients
import omero.model
import pytest
from omero.rtypes import rbool, rstring

from biomeroworker.node.attach import Attached
from biomeroworker.omero.checks import SCRIPT, examine
from tests.integration.omero.omero_objects import Person


def check_lines(server, user, password):
    given = {"OMERO_HOST": server.host, "OMERO_PORT": str(server.port), "OMERO_USER": user, "OMERO_PASSWORD": password}
    return {one.subject: (one.level, one.message) for one in examine(given)}


def test_an_administrator_has_all_privileges_that_runs_need(server):
    found = check_lines(server, "root", server.password)
    assert found["omero"][0] == "ok"
    assert found["omero rights"][0] == "ok"
    assert found["omero tables"][0] == "ok"
    assert server.password not in str(found)


def test_an_ordinary_login_can_execute_its_own_runs_only(server, person):
    found = check_lines(server, person.name, person.password)
    assert found["omero rights"][0] == "warn"
    assert "only its own runs" in found["omero rights"][1]


def test_an_administrator_without_sudo_is_named(server, person):
    with server.root() as root:
        admin = root.sf.getAdminService()
        user = omero.model.ExperimenterI()
        name = f"light-{person.name}"
        user.omeName, user.firstName, user.lastName = rstring(name), rstring("L"), rstring("A")
        user.ldap = rbool(False)
        privileges = [one for one in root.query("select p from AdminPrivilege p") if one.value.val == "WriteOwned"]
        admin.createRestrictedSystemUserWithPassword(user, privileges, rstring(Person.password))
    level, message = check_lines(server, name, Person.password)["omero rights"]
    assert (level, "Sudo is missing" in message) == ("fail", True)


def test_a_wrong_password_and_an_unreachable_server_are_one_line_each(server):
    assert check_lines(server, "root", "wrong")["omero"][0] == "fail"
    assert check_lines(type(server)("127.0.0.1", 1, "x"), "root", "x")["omero"][0] == "fail"


@contextlib.contextmanager
def own_processor(server):
    """A Processor of this checkout, which serves official scripts, beside those that the server has."""
    attached = Attached(server.root())
    try:
        yield
    finally:
        attached.close()


def test_the_check_reports_whether_a_processor_runs_our_script(server, person):
    text = (Path(__file__).parents[3] / "scripts/workflows" / SCRIPT).read_text()
    with server.root() as root, own_processor(server):
        service = root.sf.getScriptService()
        try:
            script = service.uploadOfficialScript(f"/{person.name}/{SCRIPT}", text)
        except omero.ValidationException:
            # OMERO gives a script to the Processor that answers first
            pytest.skip("a Processor of this server, in which biomeroworker is not installed, took the script")
        try:
            level, message = check_lines(server, "root", server.password)["omero processor"]
        finally:
            service.deleteScript(script)
    if level == "fail" and os.environ.get("OMERO_HOST"):
        assert "registered" not in message, "the Processor that took the script is named, not a missing one"
        pytest.skip(f"a Processor of this server took the script: {message}")
    assert level == "ok", message
