"""What the doctor makes of a server's answer for the dialog. Without a Processor a real one takes 10 s to say so."""

from types import SimpleNamespace

import omero
import omero.clients
import omero.grid
import pytest
from omero.rtypes import rlong, rstring

from biomeroworker.omero.checks import SCRIPT, _processor


class Scripts:
    """A ScriptService with our script, official: it can be run, says any server, whoever is there."""

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
    nobody = omero.NoProcessorAvailable(None, None, "No processor available! [0 response(s)]", 0)
    level, message = found(nobody)["omero processor"]
    assert (level, "no registered Processor" in message) == ("fail", True)


def test_a_script_that_breaks_before_its_dialog_says_what_it_printed():
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
def test_a_dialog_that_lacks_workflows_says_which(description, subjects):
    told = found(omero.grid.JobParams(description=description))
    assert set(told) == subjects
    assert told["omero processor"][0] == "ok"
    if "omero dialog" in told:
        assert told["omero dialog"] == ("warn", "not available on the Processor: nuclei: no descriptor")
