"""Run a workflow on the SLURM cluster.

The dialog lists the workflows of this deployment. The script submits the run and shows its progress; a supervisor
executes it. The run continues when the browser is closed or this script ends; cancelling the script cancels the run.
"""

import contextlib

import omero
import omero.clients
import omero.model
import omero.scripts
from omero.constants.namespaces import NSDYNAMIC
from omero.rtypes import robject, rstring

import biomeroworker
from biomeroworker.config import Settings
from biomeroworker.errors import BiomeroWorkerError
from biomeroworker.omero.scripts import dialog
from biomeroworker.workflows.catalogue import Catalogue
from biomeroworker.workflows.store import Network

NAME = "Slurm Workflow"


def main() -> None:
    """Declare the parameters (for a dialog the script ends here), then submit the run and show its progress."""
    workflows, versions, problems = configured()
    description = "Run a workflow on the SLURM cluster. Exports images to the cluster and imports the results."
    if problems:
        description = f"{description} Not available: {problems}"
    client = omero.scripts.client(
        NAME,
        description,
        *dialog.declare(workflows, versions),
        omero.scripts.String("Message").out(),
        omero.scripts.Object("Dataset").out(),
        namespaces=[NSDYNAMIC],
        version=biomeroworker.__version__,
        authors=["biomeroworker"],
        institutions=[],
    )
    try:
        run(client, workflows)
    finally:
        client.closeSession()


def configured():
    """The workflows of this deployment, their versions, and why others are missing. Uses no network."""
    try:
        catalogue = Catalogue(Settings.load(), Network.NEVER)
        workflows = list(catalogue.usable())
    except BiomeroWorkerError as error:
        return [], {}, f"the configuration of the worker: {error}"
    versions = {name: catalogue.versions(name) for name, _ in workflows}
    return workflows, versions, "; ".join(f"{name}: {problem}" for name, problem in sorted(catalogue.problems.items()))


def run(client, workflows) -> None:
    """Submit the selected workflows and show their progress until they end."""
    from biomeroworker.deployment.deployment import Deployment  # slow to import, and not needed for the dialog
    from biomeroworker.omero.scripts import follow

    last = ""

    def show(message: str) -> None:
        nonlocal last
        if message != last:
            last = message
            print(message, flush=True)
            # a message that does not reach OMERO must not end the script
            with contextlib.suppress(Exception):
                client.setOutput("Message", rstring(message))

    context = client.sf.getAdminService().getEventContext()
    try:
        requests = dialog.requests(
            client.getInputs(unwrap=True),
            workflows,
            user=context.userId,
            group=context.groupId,
            user_name=context.userName,
            group_name=context.groupName,
            email=email_of(client, context.userId),
        )
        with Deployment.load() as deployment:
            succeeded, runs = follow.submit_and_follow(deployment, requests, show, by=f"{context.userName} in OMERO")
    except BiomeroWorkerError as error:
        show(f"FAILED: {error}")
        follow.fail(last)
    for kind, number in follow.made_objects(runs):
        with contextlib.suppress(omero.ServerError):
            client.setOutput(kind, robject(client.sf.getQueryService().get(kind, number)))
    if not succeeded:
        follow.fail(last)


def email_of(client, user: int) -> str:
    """The e-mail address of a user's account; empty if it has none."""
    with contextlib.suppress(omero.ServerError):
        account = client.sf.getAdminService().getExperimenter(user)
        return account.email.val if account.email else ""
    return ""


if __name__ == "__main__":
    main()
