"""Run a workflow on the SLURM cluster.

The dialog lists the workflows of this deployment. The script hands the run in and shows how it goes; a supervisor
carries it. Closing the browser, or the end of this script, does not end the run; cancelling the script does.
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
    """Declare the parameters (for the dialog the script ends here), then hand in and show the run."""
    workflows, versions, trouble = configured()
    description = "Run a workflow on the SLURM cluster: images go there, results come back."
    if trouble:
        description = f"{description} Not available: {trouble}"
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
    """The workflows of this deployment, their versions, and what is wrong with those that are missing. Asks nobody."""
    try:
        catalogue = Catalogue(Settings.load(), Network.NEVER)
        workflows = list(catalogue.usable())
    except BiomeroWorkerError as error:
        return [], {}, f"the configuration of the worker: {error}"
    versions = {name: catalogue.versions(name) for name, _ in workflows}
    return workflows, versions, "; ".join(f"{name}: {problem}" for name, problem in sorted(catalogue.problems.items()))


def run(client, workflows) -> None:
    """Hand in what was ticked and show it until it ends."""
    from biomeroworker.deployment.deployment import Deployment  # not needed for the dialog, and slow to import
    from biomeroworker.omero.scripts import follow

    last = ""

    def say(message: str) -> None:
        nonlocal last
        if message != last:
            last = message
            print(message, flush=True)
            # the run matters, not whether this message reached OMERO
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
            well, runs = follow.submit_and_follow(deployment, requests, say, by=f"{context.userName} in OMERO")
    except BiomeroWorkerError as error:
        say(f"FAILED: {error}")
        follow.fail(last)
    for kind, number in follow.made_objects(runs):
        with contextlib.suppress(omero.ServerError):
            client.setOutput(kind, robject(client.sf.getQueryService().get(kind, number)))
    if not well:
        follow.fail(last)


def email_of(client, user: int) -> str:
    """The address in the user's account, if any."""
    with contextlib.suppress(omero.ServerError):
        account = client.sf.getAdminService().getExperimenter(user)
        return account.email.val if account.email else ""
    return ""


if __name__ == "__main__":
    main()
