"""Findings of the doctor about login, privileges, Tables and Processor of a real server."""

from pathlib import Path

import omero.model
from omero.rtypes import rbool, rstring

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


def test_the_check_reports_whether_a_processor_runs_our_script(server, person, request):
    request.getfixturevalue("grid")
    with server.root() as root:
        service = root.sf.getScriptService()
        text = (Path(__file__).parents[3] / "scripts" / SCRIPT).read_text()
        script = service.uploadOfficialScript(f"/{person.name}/{SCRIPT}", text)
        try:
            assert check_lines(server, "root", server.password)["omero processor"][0] == "ok"
        finally:
            service.deleteScript(script)
