"""The doctor's findings from the server's answer for the dialog; a real one without a Processor answers after 10 s."""

from types import SimpleNamespace

import omero
import omero.clients
import omero.grid
import pytest
from omero.rtypes import rlong, rstring

from biomeroworker.omero.checks import SCRIPT, _processor


class Scripts:
    """A ScriptService with our official script. As on a real server, canRunScript is true even without a Processor."""

    def __init__(self, answer):
        self.answer = answer

    def getScripts(self):  # noqa: N802  OMERO's name
        return [SimpleNamespace(name=rstring(SCRIPT), id=rlong(3))]

    def canRunScript(self, number):  # noqa: N802  OMERO's name
        return True

    def getParams(self, number):  # noqa: N802  OMERO's name
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def found(answer):
    session = SimpleNamespace(sf=SimpleNamespace(getScriptService=lambda: Scripts(answer)))
    return {one.subject: (one.level, one.message) for one in _processor(session)}


def test_an_official_script_that_no_processor_runs_is_a_failure():
    error = omero.NoProcessorAvailable(None, None, "No processor available! [0 response(s)]", 0)
    level, message = found(error)["omero processor"]
    assert (level, "no registered Processor" in message) == ("fail", True)


def test_a_script_that_fails_before_its_dialog_is_a_failure_with_its_output():
    level, message = found(omero.ValidationException(None, None, "ModuleNotFoundError: biomeroworker"))[
        "omero processor"
    ]
    assert level == "fail"
    assert "ModuleNotFoundError: biomeroworker" in message


@pytest.mark.parametrize(
    ("description", "subjects"),
    [
        ("Run a workflow.", {"omero processor"}),
        ("Run a workflow. Not available: nuclei: no descriptor", {"omero processor", "omero dialog"}),
    ],
)
def test_workflows_that_a_dialog_lacks_are_named(description, subjects):
    findings = found(omero.grid.JobParams(description=description))
    assert set(findings) == subjects
    assert findings["omero processor"][0] == "ok"
    if "omero dialog" in findings:
        assert findings["omero dialog"] == ("warn", "not available on the Processor: nuclei: no descriptor")
