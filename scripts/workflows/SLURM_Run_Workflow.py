"""Run a workflow on the SLURM cluster.

The dialog lists the workflows of this deployment. The script submits the run and shows its progress; a supervisor
executes it. The run continues when the browser is closed or this script ends; cancelling the script cancels the run.
"""

from biomeroworker.omero.scripts import run_workflow


def deployment():
    """Open the deployment; slow to import, and not needed for the dialog."""
    from biomeroworker.deployment.deployment import Deployment

    return Deployment.load()


if __name__ == "__main__":
    run_workflow.main(
        "Slurm Workflow",
        "Run a workflow on the SLURM cluster. Exports images to the cluster and imports the results.",
        deployment,
    )
