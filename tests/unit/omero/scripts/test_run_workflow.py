"""The main part of the scripts that run workflows: what the dialog imports, and what a filled-in dialog causes."""

import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest

from biomeroworker.domain.request import RecordedRequest
from biomeroworker.omero.scripts import acceptance, outputs, run_workflow
from biomeroworker.omero.scripts.script import Account
from tests.unit.omero.scripts.dialog_workflows import WORKFLOWS

#: What takes long to import, and is not needed to declare parameters.
SLOW = ("sqlalchemy", "eventsourcing", "requests", "yaml", "numpy", "zarr", "biomeroworker.deployment")


def test_a_dialog_imports_nothing_that_only_a_run_needs():
    program = (
        "import sys; from biomeroworker.omero.scripts import run_workflow, fields;"
        "found = run_workflow.configured(); fields.declare(found.workflows, found.versions);"
        f"print([name for name in {SLOW!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_a_broken_configuration_opens_the_dialog_and_is_named(tmp_path, monkeypatch):
    config = tmp_path / "slurm-config.ini"
    config.write_text("[SLURM]\npoll_seconds = often\n")
    monkeypatch.setenv("BIOMERO_CONFIG", str(config))
    found = run_workflow.configured()
    assert found.workflows == []
    assert "poll_seconds" in found.problems["the configuration of the worker"]


@pytest.mark.parametrize(("smtp", "email"), [("", False), ("smtp_from = a@b.org\nsmtp_host = mail\n", True)])
def test_e_mails_can_be_sent_where_a_mail_server_is_configured(tmp_path, monkeypatch, smtp, email):
    config = tmp_path / "slurm-config.ini"
    config.write_text(f"[NOTIFICATIONS]\n{smtp}")
    monkeypatch.setenv("BIOMERO_CONFIG", str(config))
    assert run_workflow.configured().email is email


class FakeScript:
    """The inputs of a script, and what it reports."""

    by = "ann in OMERO"

    def __init__(self, **inputs):
        self.inputs = {"Data_Type": "Image", "IDs": [3], "nuclei": True, **inputs}
        self.account = Account(4, "ann", 5, "lab", False)
        self.client = SimpleNamespace(setOutput=lambda name, value: None)
        self.shown = ""

    def report(self, message):
        self.shown = message


class FakeDeployment:
    """Accepts requests; following a run is an error."""

    settings = catalogue = None

    def __init__(self):
        self.requests = []

    def submit(self, request):
        self.requests.append(request)
        return UUID(int=7)


def test_detach_returns_when_the_run_is_accepted(monkeypatch):
    checked = []
    monkeypatch.setattr(
        acceptance, "check_request", lambda client, request, settings, catalogue: checked.append(request)
    )
    script, deployment = FakeScript(Detach=True), FakeDeployment()
    message = run_workflow.run(script, WORKFLOWS, lambda: nullcontext(deployment), batched=False)
    assert "continues without this script" in message
    assert deployment.requests == checked
    assert (checked[0].user, checked[0].group, checked[0].email) == (4, 5, "")


def test_no_run_is_accepted_if_one_of_several_would_be_refused(monkeypatch):
    def check(client, request, settings, catalogue):
        if request.workflow == "other":
            raise ValueError("refused")

    monkeypatch.setattr(acceptance, "check_request", check)
    deployment = FakeDeployment()
    with pytest.raises(ValueError, match="refused"):
        run_workflow.run(FakeScript(other=True, Detach=True), WORKFLOWS, lambda: nullcontext(deployment), batched=False)
    assert deployment.requests == []


def run(ids, *made):
    outcomes = {"importing": {"made": [{"kind": "Dataset", "reference": f"Dataset:{number}"} for number in made]}}
    inputs = {"type": "Image", "ids": ids}
    return SimpleNamespace(id=uuid4(), outcomes=outcomes, recorded_request=RecordedRequest(inputs=inputs))


def test_the_link_shows_the_datasets_of_the_results_or_else_the_inputs():
    assert outputs.web_link([run([1], 4), run([2], 4), run([3], 5)]) == "/webclient/?show=dataset-4|dataset-5"
    assert outputs.web_link([run([1, 2])]) == "/webclient/?show=image-1|image-2"
    assert outputs.web_link([run(range(500))]).count("image-") == outputs.OBJECTS_SHOWN
    assert outputs.web_link([]) == ""
