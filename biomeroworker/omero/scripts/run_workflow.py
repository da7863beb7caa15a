"""The main part of the scripts that run workflows: open the dialog, submit the runs, and show their progress.

The dialog needs neither the cluster nor the network. A supervisor executes the runs, so they continue when the browser
is closed or the script ends; cancelling the script cancels them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import omero
import omero.clients

from biomeroworker.config import Settings
from biomeroworker.domain.constants import workflow as names
from biomeroworker.errors import BiomeroWorkerError
from biomeroworker.omero.scripts import fields, filled_dialog
from biomeroworker.omero.scripts.names import DETACH
from biomeroworker.omero.scripts.script import Script, execute
from biomeroworker.workflows.catalogue import Catalogue
from biomeroworker.workflows.descriptor import Workflow
from biomeroworker.workflows.store import Network

if TYPE_CHECKING:
    from biomeroworker.omero.scripts.follow import Deployment


class Configured(NamedTuple):
    """The workflows of this deployment, their versions, why others are missing, and whether e-mails can be sent."""

    workflows: list[tuple[str, Workflow]]
    versions: dict[str, list[str]]
    problems: dict[str, str]
    email: bool


def main(
    name: str,
    description: str,
    open_deployment: Callable[[], AbstractContextManager[Deployment]],
    *,
    batched: bool = False,
) -> None:
    """Declare the parameters (for a dialog the script ends here), then run the selected workflows.

    Parameters
    ----------
    open_deployment
        Makes the deployment; not called for a dialog.
    batched
        Whether the inputs are always split into the tasks of an array job.
    """
    found = configured()
    parameters, hidden = fields.declare(found.workflows, found.versions, batched=batched, email=found.email)
    if problems := found.problems | hidden:
        missing = "; ".join(f"{one}: {problem}" for one, problem in sorted(problems.items()))
        description = f"{description} Not available: {missing}"
    execute(
        name,
        description,
        parameters,
        partial(run, workflows=found.workflows, open_deployment=open_deployment, batched=batched),
    )


def configured() -> Configured:
    """Read the configuration and the cached descriptors. Uses no network."""
    try:
        settings = Settings.load()
        catalogue = Catalogue(settings, Network.NEVER)
        workflows = list(catalogue.usable())
    except BiomeroWorkerError as error:
        return Configured([], {}, {"the configuration of the worker": str(error)}, email=False)
    versions = {name: catalogue.versions(name) for name, _ in workflows}
    return Configured(workflows, versions, dict(catalogue.problems), bool(settings.notifications.smtp_host))


def run(
    script: Script,
    workflows: list[tuple[str, Workflow]],
    open_deployment: Callable[[], AbstractContextManager[Deployment]],
    *,
    batched: bool,
) -> str:
    """Submit the selected workflows and show their progress until they end; return the message of the end."""
    account = script.account
    requests = filled_dialog.requests(
        script.inputs,
        workflows,
        user=account.user,
        group=account.group,
        user_name=account.user_name,
        group_name=account.group_name,
        email=_email_of(script) if script.inputs.get(names.EMAIL) else "",
        batched=batched,
    )
    # slow to import, and not needed for the dialog
    from biomeroworker.omero.scripts import acceptance, follow, messages, outputs

    def describe(one: Any) -> str:
        return messages.describe(one, _dataset_names(script, [number for _, number in messages.made_objects([one])]))

    with open_deployment() as deployment:
        for request in requests:  # before any of them is accepted
            acceptance.check_request(script.client, request, deployment.settings, deployment.catalogue)
        succeeded, ended = follow.submit_and_follow(
            deployment, requests, script.report, by=script.by, describe=describe, detach=bool(script.inputs.get(DETACH))
        )
        outputs.publish(script, deployment, ended)
    if not succeeded:
        follow.fail(script.shown)
    return script.shown


def _dataset_names(script: Script, ids: list[int]) -> dict[int, str]:
    names: dict[int, str] = {}
    for number in ids:
        with contextlib.suppress(omero.ServerError):
            names[number] = script.client.sf.getQueryService().get("Dataset", number, {"omero.group": "-1"}).name.val
    return names


def _email_of(script: Script) -> str:
    """The e-mail address of the user's account; empty if it has none."""
    with contextlib.suppress(omero.ServerError):
        account = script.client.sf.getAdminService().getExperimenter(script.account.user)
        return str(account.email.val or "") if account.email else ""
    return ""
